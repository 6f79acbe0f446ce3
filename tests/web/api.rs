//! The JSON API: what other programs rely on.

use firstread::store::accounts::Role;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::common::databases;
use crate::site::{Site, uid};

async fn put(site: &Site, token: &str, path: &str, key: &str, body: &str) -> Response {
    Client::new()
        .put(site.url(path))
        .bearer_auth(token)
        .header("idempotency-key", key)
        .body(body.to_owned())
        .send()
        .await
        .unwrap()
}

async fn get(site: &Site, token: &str, path: &str) -> (StatusCode, Value) {
    let request = Client::new().get(site.url(path)).bearer_auth(token);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn an_order_moves_its_study_once() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 60, 10.0).await;
        site.study(2, 10, 5.0).await;
        let (reader, ris) = (
            site.token(Role::Reader).await,
            site.token(Role::Integration).await,
        );
        let (_, before) = get(&site, &reader, "/api/v1/worklist").await;
        assert_eq!(before["items"][0]["study_uid"], uid(1));

        let stat = "{\"priority\":\"stat\"}";
        let first = put(&site, &ris, "/api/v1/orders/ACC-2", "k1", stat).await;
        assert_eq!(first.status(), StatusCode::OK);
        let first = first.text().await.unwrap();
        let read: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(read["priority"], "stat");
        assert_eq!(read["study_uids"], json!([uid(2)]));
        let (_, after) = get(&site, &reader, "/api/v1/worklist").await;
        assert_eq!(after["items"][0]["study_uid"], uid(2));
        assert_eq!(after["items"][0]["order_priority"], "stat");

        // the same again later: the same answer, to the letter
        site.clock.advance_ms(60_000);
        let again = put(
            &site,
            &ris,
            "/api/v1/orders/ACC-2",
            "k1",
            " {\"priority\": \"stat\"}",
        )
        .await;
        assert_eq!(again.text().await.unwrap(), first);
        // another request under the same key
        let other = "{\"priority\":\"routine\"}";
        let clash = put(&site, &ris, "/api/v1/orders/ACC-2", "k1", other).await;
        assert_eq!(clash.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let clash = put(&site, &ris, "/api/v1/orders/ACC-1", "k1", stat).await;
        assert_eq!(clash.status(), StatusCode::UNPROCESSABLE_ENTITY);
        // keys belong to a token
        let second_ris = site.token(Role::Integration).await;
        let free = put(&site, &second_ris, "/api/v1/orders/ACC-1", "k1", stat).await;
        assert_eq!(free.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn errors_are_problems_with_advice() {
    let site = Site::start().await;
    let (reader, ris) = (
        site.token(Role::Reader).await,
        site.token(Role::Integration).await,
    );
    let order = "/api/v1/orders/A";
    let stat = "{\"priority\":\"stat\"}";
    let cases = [
        (
            put(&site, &ris, order, "k", "not json").await,
            400,
            "bad_json",
        ),
        (
            put(&site, &ris, order, "k", "{\"priority\":\"now\"}").await,
            422,
            "unknown_priority",
        ),
        (
            put(&site, &ris, order, " ", stat).await,
            400,
            "no_idempotency_key",
        ),
        (
            put(&site, &ris, "/api/v1/orders/%0A", "k", stat).await,
            422,
            "bad_accession",
        ),
        (put(&site, &reader, order, "k", stat).await, 403, "role"),
        (
            put(&site, "frt_00", order, "k", stat).await,
            401,
            "unknown_token",
        ),
        (
            Client::new()
                .get(site.url("/api/v1/worklist"))
                .send()
                .await
                .unwrap(),
            401,
            "no_token",
        ),
        (
            Client::new()
                .get(site.url("/api/v1/nothing"))
                .send()
                .await
                .unwrap(),
            404,
            "not_found",
        ),
    ];
    for (answer, status, code) in cases {
        assert_eq!(answer.status().as_u16(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code);
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    for (path, status, code) in [
        ("/api/v1/worklist?band=high", 400, "unknown_band"),
        ("/api/v1/worklist?page=0", 400, "bad_page"),
        ("/api/v1/studies/1.2.3", 404, "not_found"),
    ] {
        let (found, problem) = get(&site, &reader, path).await;
        assert_eq!(
            (found.as_u16(), problem["code"].as_str().unwrap()),
            (status, code)
        );
    }
    let large = put(&site, &ris, order, "k", &"x".repeat(100_000)).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_list_has_its_contract() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=60 {
            site.study(n, i64::from(n), 5.0).await;
        }
        let token = site.token(Role::Reader).await;
        let (_, first) = get(&site, &token, "/api/v1/worklist").await;
        assert_eq!(first["total"], 60);
        assert_eq!(first["items"].as_array().unwrap().len(), 50);
        let item = &first["items"][0];
        assert_eq!(item["study_uid"], uid(60));
        for key in [
            "rank",
            "band",
            "head_start_minutes",
            "reasons",
            "p_abnormal",
            "order_priority",
            "state",
            "not_analysed_reason",
            "volumetry",
            "volumetry_reason",
            "arrived_at",
            "screened_at",
            "analysed_at",
        ] {
            assert!(item.get(key).is_some(), "{key}");
        }
        assert_eq!(item["arrived_at"], "2026-11-23T11:00:00.000Z");
        assert_eq!(item["analysed_at"], Value::Null);
        assert_eq!(item["patient_name"], "Family60, Given");
        let (_, second) = get(&site, &token, "/api/v1/worklist?page=2").await;
        assert_eq!(second["items"][0]["rank"], 51);
        let (_, found) = get(&site, &token, "/api/v1/worklist?q=family7%5E").await;
        assert_eq!(found["total"], 1);
        let (_, found) = get(&site, &token, "/api/v1/worklist?q=%25&band=routine").await;
        assert_eq!(found["total"], 0, "a percent sign is text");
        let (_, study) = get(&site, &token, &format!("/api/v1/studies/{}", uid(7))).await;
        assert_eq!(study["reading"], "open");
        assert!(study["series"].is_array() && study["volumes"].is_array());
    }
}
