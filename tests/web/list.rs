//! The list: filters, sorting, filters that people keep, what is due.

use firstread::store::accounts::Role;
use firstread::worklist::Acting;
use reqwest::{Client, StatusCode};
use sea_orm::ActiveValue::Set;
use serde_json::Value;

use crate::common::databases;
use crate::site::{NOON_MS, Site, field, uid};

async fn items(site: &Site, token: &str, query: &str) -> Vec<String> {
    let url = site.url(&format!("/api/v1/worklist?{query}"));
    let answer = Client::new().get(url).bearer_auth(token).send();
    let list: Value = answer.await.unwrap().json().await.unwrap();
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(list["total"], items.len(), "{query}");
    items
        .iter()
        .map(|i| i["study_uid"].as_str().unwrap().to_owned())
        .collect()
}

fn acting(reader: &str) -> Acting<'_> {
    Acting {
        reader,
        now_ms: NOON_MS,
        held_since_ms: NOON_MS - 1_800_000,
    }
}

#[tokio::test]
async fn every_filter_leaves_what_fits_in_the_order_of_the_list() {
    for database in databases() {
        let site = Site::on(&database).await;
        let token = site.token(Role::Reader).await;
        for n in 1..=6 {
            let odd = n % 2 == 1;
            site.study_with(n, 60 - i64::from(n), 5.0, |row| {
                row.modality = Set(Some(if odd { "MR" } else { "CT" }.into()));
                row.body_part = Set((n != 6).then(|| "BRAIN".into()));
                row.institution = Set(Some(if n <= 2 { "North" } else { "South & Co" }.into()));
                row.referrer = Set(Some(format!("Doc{}^A", n % 3)));
                row.state = Set(if n == 4 { "not_analysed" } else { "screened" }.into());
            })
            .await;
        }
        site.store
            .claim_study(&uid(5), acting("bert"))
            .await
            .unwrap();
        site.store.mark_read(&uid(2), acting("anna")).await.unwrap();
        let check = async |query: &str, expected: &[u32]| {
            let expected: Vec<String> = expected.iter().map(|n| uid(*n)).collect();
            assert_eq!(items(&site, &token, query).await, expected, "{query}");
        };
        check("", &[1, 3, 4, 5, 6]).await;
        check("modality=MR", &[1, 3, 5]).await;
        check("region=BRAIN&modality=CT", &[4]).await;
        check("location=South%20%26%20Co", &[3, 4, 5, 6]).await;
        check("referrer=Doc0%5EA", &[3, 6]).await;
        check("state=not_analysed", &[4]).await;
        check("assigned=reader:bert", &[5]).await;
        check("assigned=unassigned&modality=MR", &[1, 3]).await;
        check("reading=read", &[2]).await;
        check("reading=read&sort=patient&q=family2", &[2]).await;
        check("reading=read&assigned=unassigned&dir=desc", &[2]).await;
        check("reading=read&q=family3", &[]).await;
        check("q=family6&modality=CT&state=screened", &[6]).await;
        check("modality=US", &[]).await;
        // the rank is the place among all that are open, whatever is shown
        let url = site.url("/api/v1/worklist?modality=CT");
        let answer = Client::new().get(url).bearer_auth(&token).send();
        let list: Value = answer.await.unwrap().json().await.unwrap();
        assert_eq!(list["items"][0]["rank"], 3);
        assert_eq!(list["items"][1]["rank"], 5);
    }
}

#[tokio::test]
async fn a_search_finds_every_word_in_any_case() {
    for database in databases() {
        let site = Site::on(&database).await;
        let token = site.token(Role::Reader).await;
        for (n, name, referrer) in [
            (1, "MÜLLER-Lüdenscheidt^Ännchen", "Weiß^Ada"),
            (2, "Mueller^100%_", "Klein^Bo"),
        ] {
            site.study_with(n, 60 - i64::from(n), 5.0, |row| {
                row.patient_name = Set(Some(name.into()));
                row.referrer = Set(Some(referrer.into()));
            })
            .await;
        }
        let check = async |query: &str, expected: &[u32]| {
            let expected: Vec<String> = expected.iter().map(|n| uid(*n)).collect();
            assert_eq!(
                items(&site, &token, &format!("q={query}")).await,
                expected,
                "{query}"
            );
        };
        check("m%C3%BCller", &[1]).await;
        check("%C3%84NNCHEN%20m%C3%BCller", &[1]).await;
        check("m%C3%BCller%5E%C3%A4nnchen", &[1]).await;
        check("weiss", &[]).await;
        check("WEI%C3%9F%20ada%20pat-1", &[1]).await;
        check("100%25_", &[2]).await;
        check("1%25_", &[]).await;
        check("acc-2%20brain", &[2]).await;
        check("brain", &[1, 2]).await;
        check("%5E", &[1, 2]).await;
        check("brain%20klein%20m%C3%BCller", &[]).await;
    }
}

#[tokio::test]
async fn pages_of_any_list_join_without_gap_or_overlap() {
    const STUDIES: u32 = 120;
    for database in databases() {
        let site = Site::on(&database).await;
        let token = site.token(Role::Reader).await;
        for n in 1..=STUDIES {
            // many ties in whatever the list is sorted by
            let draw = n * 7919 % 101;
            site.study_with(n, i64::from(draw % 13), f64::from(draw % 5), |row| {
                row.patient_name = Set((draw % 4 != 0).then(|| format!("Name{}^A", draw % 6)));
                row.description = Set((draw % 3 != 0).then(|| "MR brain".into()));
                row.band = Set(["routine", "urgent"][draw as usize % 2].into());
                row.referrer = Set(Some(format!("Doc{}^B", draw % 2)));
            })
            .await;
        }
        let page = async |query: &str, page: u32| -> Value {
            let url = site.url(&format!("/api/v1/worklist?{query}&page={page}"));
            let answer = Client::new().get(url).bearer_auth(&token).send();
            answer.await.unwrap().json().await.unwrap()
        };
        let all = async |query: &str| -> (Vec<(String, u64)>, u64) {
            let mut rows = Vec::new();
            let mut total = 0;
            for n in 1..=3 {
                let list = page(query, n).await;
                total = list["total"].as_u64().unwrap();
                rows.extend(list["items"].as_array().unwrap().iter().map(|i| {
                    (
                        i["study_uid"].as_str().unwrap().to_owned(),
                        i["rank"].as_u64().unwrap(),
                    )
                }));
            }
            (rows, total)
        };
        let (list, total) = all("").await;
        let places: Vec<u64> = list.iter().map(|(_, rank)| *rank).collect();
        assert_eq!(places, (1..=u64::from(STUDIES)).collect::<Vec<_>>());
        assert_eq!(total, u64::from(STUDIES));
        for query in [
            "sort=patient",
            "sort=patient&dir=desc",
            "sort=study",
            "sort=state&dir=desc",
            "sort=arrived",
            "dir=desc",
            "band=urgent",
            "referrer=Doc1%5EB&sort=study",
            "q=doc1&assigned=unassigned",
        ] {
            let (rows, total) = all(query).await;
            assert_eq!(rows.len() as u64, total, "{query}");
            assert!(query.starts_with("sort") || query.starts_with("dir") || total < 120);
            let mut sorted = rows.clone();
            sorted.sort_by_key(|(_, rank)| *rank);
            let expected: Vec<_> = list.iter().filter(|row| rows.contains(row)).collect();
            assert_eq!(
                sorted.iter().collect::<Vec<_>>(),
                expected,
                "{query}: each study once, with its place in the whole list"
            );
        }
    }
}

#[tokio::test]
async fn rows_are_sorted_as_asked_and_ties_stand_in_the_order_of_the_list() {
    for database in databases() {
        let site = Site::on(&database).await;
        let token = site.token(Role::Reader).await;
        for (n, name, minutes_ago, minutes) in [
            (1, "bauer^X", 10, 90.0),
            (2, "Adler^X", 20, 5.0),
            (3, "Conrad^X", 30, 0.0),
            (4, "adler^X", 40, 120.0),
        ] {
            site.study_with(n, minutes_ago, minutes, |row| {
                row.patient_name = Set(Some(name.into()));
                row.state = Set(if n == 3 { "received" } else { "screened" }.into());
            })
            .await;
        }
        let check = async |query: &str, expected: [u32; 4]| {
            let expected = expected.map(uid).to_vec();
            assert_eq!(items(&site, &token, query).await, expected, "{query}");
        };
        check("", [4, 1, 3, 2]).await;
        check("dir=desc", [2, 3, 1, 4]).await;
        check("sort=arrived", [4, 3, 2, 1]).await;
        check("sort=arrived&dir=desc", [1, 2, 3, 4]).await;
        // the same name: by patient id, so that studies of one patient stand together
        check("sort=patient", [2, 4, 1, 3]).await;
        check("sort=patient&dir=desc", [3, 1, 4, 2]).await;
        check("sort=study", [4, 1, 3, 2]).await;
        check("sort=state", [3, 4, 1, 2]).await;
    }
}

#[tokio::test]
async fn the_page_keeps_its_list_in_the_address() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    for n in 1..=3 {
        site.study_with(n, 30, 5.0, |row| {
            row.referrer = Set(Some("Weiß^Ada".into()));
            row.body_part = Set(Some("HEAD".into()));
        })
        .await;
    }
    let page = site
        .page(
            &reader,
            "/worklist?region=HEAD&referrer=Wei%C3%9F%5EAda&sort=patient",
        )
        .await;
    for said in [
        "Body region: HEAD",
        "Referrer: Weiß, Ada",
        "<option value=\"HEAD\" selected>HEAD (3)</option>",
        "aria-sort=\"ascending\"",
        "3 open studies match",
        // the same list without the region, and the other way round
        "href=\"/worklist?referrer=Wei%C3%9F%5EAda&#38;sort=patient\"",
        "href=\"/worklist?region=HEAD&#38;referrer=Wei%C3%9F%5EAda&#38;sort=patient&#38;dir=desc\"",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
    for bad in [
        "/worklist?sort=age",
        "/worklist?state=odd",
        "/worklist?reading=prior",
    ] {
        let answer = reader.get(site.url(bad)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn filters_are_kept_for_whoever_keeps_them() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 5.0).await;
        let (anna, bert) = (
            site.signed_in_as("anna", Role::Reader).await,
            site.signed_in_as("bert", Role::Reader).await,
        );
        let csrf = field(&site.page(&anna, "/worklist").await, "csrf");
        let send = async |path: &str, pairs: &[(&str, &str)]| {
            let form = anna.post(site.url(path)).form(pairs).send();
            let answer = form.await.unwrap();
            let to = answer.headers().get("location").cloned();
            (answer.status(), to.map(|l| l.to_str().unwrap().to_owned()))
        };
        let list = "band=urgent&q=a%26b&page=4&read=1.2";
        let pairs = [("csrf", &*csrf), ("name", " <My> list "), ("list", list)];
        let kept = send("/worklist/filters", &pairs);
        let to = "/worklist?band=urgent&q=a%26b".to_owned();
        assert_eq!(kept.await, (StatusCode::SEE_OTHER, Some(to)));
        let link = "<a class=\"filter\" href=\"/worklist?band=urgent&#38;q=a%26b\"";
        let page = site.page(&anna, "/worklist").await;
        assert!(
            page.contains(link) && page.contains("&#60;My&#62; list"),
            "{page}"
        );
        assert!(!site.page(&bert, "/worklist").await.contains("&#60;My&#62;"));
        for (pairs, status) in [
            ([("csrf", "wrong"), ("name", "x"), ("list", "")], 403),
            ([("csrf", &*csrf), ("name", " "), ("list", "")], 422),
            ([("csrf", &*csrf), ("name", "x"), ("list", "band=odd")], 400),
        ] {
            let (answered, _) = send("/worklist/filters", &pairs).await;
            assert_eq!(answered.as_u16(), status, "{pairs:?}");
        }
        for n in 0..20 {
            let name = format!("n{n}");
            let (status, _) = send("/worklist/filters", &[("csrf", &csrf), ("name", &name)]).await;
            let expected = if n < 19 { 303 } else { 422 };
            assert_eq!(status.as_u16(), expected, "{n}: twenty are the most");
        }
        let saved = site.store.saved_filters("anna").await.unwrap();
        assert_eq!(saved.len(), 20);
        let mine = saved.iter().find(|s| s.name == "<My> list").unwrap().id;
        let path = format!("/worklist/filters/{mine}");
        let theirs = field(&site.page(&bert, "/worklist").await, "csrf");
        let foreign = bert.post(site.url(&path)).form(&[("csrf", &theirs)]).send();
        assert_eq!(foreign.await.unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(
            send(&path, &[("csrf", &csrf)]).await.0,
            StatusCode::SEE_OTHER
        );
        assert!(!site.page(&anna, "/worklist").await.contains("&#60;My&#62;"));
    }
}

#[tokio::test]
async fn each_row_says_how_long_is_left_in_words_and_colour() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    for (n, minutes_ago, band, order) in [
        (1, 40, "critical", "routine"),
        (2, 50, "urgent", "routine"),
        (3, 10, "urgent", "routine"),
        (4, 65, "routine", "stat"),
        (5, 65, "routine", "routine"),
    ] {
        site.study_with(n, minutes_ago, 5.0, |row| {
            row.band = Set(band.into());
            row.order_priority = Set(order.into());
        })
        .await;
    }
    let page = site.page(&reader, "/worklist").await;
    for (n, class, text) in [
        (1, "late", "overdue 10 min"),
        (2, "soon", "due in 10 min"),
        (3, "ample", "due in 50 min"),
        (4, "late", "overdue 5 min"),
        (5, "ample", "due in 22 h 55 min"),
    ] {
        let row = page
            .split("<tr data-uid=")
            .find(|r| r.contains(&format!("{}\"", uid(n))));
        let row = row.unwrap();
        assert!(
            row.contains(&format!("class=\"sub due {class}\"")),
            "{n}: {row}"
        );
        assert!(row.contains(text), "{n}: {row}");
    }
}

#[tokio::test]
async fn what_stands_out_has_a_picture_in_its_row() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let pictures = "{\"contrast\":\"T1\",\"p_logit\":null,\"p_calibrated\":null,\"prevalence_train\":null,\"head_logit\":null,\"findings\":[],\"focus_mm\":null,\"volumes\":[],\"pictures\":[\"axial\"],\"timings_ms\":{}}";
    for (n, band) in [(1, "urgent"), (2, "routine")] {
        let study = site
            .study_with(n, 10, 5.0, |row| row.band = Set(band.into()))
            .await;
        site.series_with(&study, |_| {}).await;
        site.screening_with(&study, |row| row.result_json = Set(pictures.into()))
            .await;
    }
    let page = site.page(&reader, "/worklist").await;
    let picture = |n| format!("/studies/{0}/series/{0}.1/axial.png", uid(n));
    assert!(page.contains(&picture(1)), "{page}");
    assert!(!page.contains(&picture(2)), "nothing stands out");
}
