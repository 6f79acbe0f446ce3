//! `Subscription` as a FHIR client meets it; `fhir.resources` parses what is given out.

use firstread::store::accounts::Role;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::common::databases;
use crate::fhir::judged;
use crate::site::{Site, browser};

pub fn asked() -> Value {
    json!({
        "resourceType": "Subscription", "status": "requested", "reason": "urgent studies",
        "criteria": "DiagnosticReport?conclusion=urgent,critical",
        "channel": {
            "type": "rest-hook", "endpoint": "https://ris.example/hook",
            "payload": "application/fhir+json", "header": ["Authorization: Bearer s3cret"],
        },
    })
}

async fn send(site: &Site, method: Method, path: &str, token: &str, body: &Value) -> Response {
    let request = browser().request(method, site.url(&format!("/fhir/{path}")));
    let request = request.bearer_auth(token).body(body.to_string());
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_subscription_is_made_read_found_and_deleted_by_its_own_token() {
    for database in databases() {
        let site = Site::on(&database).await;
        let token = site.token_of("ris", Role::Integration).await;
        let other = site.token_of("pacs", Role::Integration).await;
        let admin = site.token_of("root", Role::Admin).await;
        let get = async |path: &str, token: &str| {
            send(&site, Method::GET, path, token, &Value::Null).await
        };
        let made = send(&site, Method::POST, "Subscription", &token, &asked()).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        assert_eq!(made.headers()["location"], site.url("/fhir/Subscription/1"));
        let made: Value = made.json().await.unwrap();
        assert_eq!(
            (&made["id"], &made["status"]),
            (&json!("1"), &json!("active"))
        );
        assert_eq!(made["channel"]["header"], json!(["Authorization: ***"]));
        let kept = site.store.subscription(1).await.unwrap().unwrap();
        assert!(
            !format!("{kept:?}").contains("s3cret"),
            "sealed in the database"
        );
        let read: Value = get("Subscription/1", &token).await.json().await.unwrap();
        assert_eq!(read, made);
        let found = async |path: &str, token: &str| -> Value {
            get(path, token).await.json::<Value>().await.unwrap()["total"].clone()
        };
        assert_eq!(found("Subscription", &token).await, 1);
        assert_eq!(found("Subscription?status=active&_id=1", &token).await, 1);
        assert_eq!(found("Subscription?status=error", &token).await, 0);
        assert_eq!(found("Subscription", &other).await, 0);
        assert_eq!(found("Subscription", &admin).await, 1);
        let bundle: Value = get("Subscription", &admin).await.json().await.unwrap();
        for wrong in judged(&[made, bundle]) {
            assert!(wrong.is_null(), "{wrong}");
        }
        for (method, path, token, status) in [
            (Method::GET, "Subscription/1", &other, StatusCode::NOT_FOUND),
            (
                Method::DELETE,
                "Subscription/1",
                &other,
                StatusCode::NOT_FOUND,
            ),
            (
                Method::DELETE,
                "Task/1",
                &token,
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            (
                Method::GET,
                "Subscription?x=1",
                &token,
                StatusCode::BAD_REQUEST,
            ),
            (
                Method::DELETE,
                "Subscription/1",
                &token,
                StatusCode::NO_CONTENT,
            ),
            (
                Method::DELETE,
                "Subscription/1",
                &token,
                StatusCode::NOT_FOUND,
            ),
            (Method::GET, "Subscription/1", &token, StatusCode::NOT_FOUND),
        ] {
            let answer = send(&site, method.clone(), path, token, &Value::Null).await;
            assert_eq!(answer.status(), status, "{method} {path}");
        }
        assert_eq!(found("Subscription", &admin).await, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_an_operation_outcome() {
    let site = Site::start().await;
    let token = site.token_of("ris", Role::Integration).await;
    let reader = site.token_of("anna", Role::Reader).await;
    let refused = async |token: &str, path: &str, body: String| {
        let request = browser().post(site.url(&format!("/fhir/{path}")));
        let answer = request.bearer_auth(token).body(body).send().await.unwrap();
        let status = answer.status();
        let outcome: Value = answer.json().await.unwrap();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        (
            status.as_u16(),
            outcome["issue"][0]["diagnostics"].to_string(),
        )
    };
    let with = |pointer: &str, value: Value| {
        let mut wrong = asked();
        *wrong.pointer_mut(pointer).unwrap() = value;
        wrong.to_string()
    };
    for (token, path, body, status, word) in [
        (&token, "Subscription", "{".to_owned(), 400, "JSON"),
        (&token, "Task", asked().to_string(), 405, "GET"),
        (&reader, "Subscription", asked().to_string(), 403, "role"),
        (
            &token,
            "Subscription",
            with("/criteria", json!("Patient?name=x")),
            422,
            "DiagnosticReport",
        ),
        (
            &token,
            "Subscription",
            with("/channel/endpoint", json!("https://evil.example/")),
            422,
            "fhir.subscription_hosts",
        ),
        (
            &token,
            "Subscription",
            with("/channel/endpoint", json!("http://ris.example/")),
            422,
            "TLS",
        ),
        (
            &token,
            "Subscription",
            with("/channel/header", json!(["Host: a"])),
            422,
            "channel.header",
        ),
    ] {
        let (found, said) = refused(token, path, body).await;
        assert_eq!(found, status, "{said}");
        assert!(said.contains(word), "{said}");
    }
    let listed = send(&site, Method::GET, "Subscription", &reader, &Value::Null).await;
    assert_eq!(listed.status(), StatusCode::FORBIDDEN);
    for n in 0..50 {
        let made = send(&site, Method::POST, "Subscription", &token, &asked()).await;
        assert_eq!(made.status(), StatusCode::CREATED, "{n}");
    }
    let (status, said) = refused(&token, "Subscription", asked().to_string()).await;
    assert_eq!(status, 422, "{said}");
}
