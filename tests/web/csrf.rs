//! Forged forms, from the one table of routes: whatever a signed-in browser changes asks for the token of its session.
//! A new route is walked by itself, and fails here where it does not ask.

use std::collections::BTreeMap;

use firstread::clock::Clock;
use firstread::store::accounts::Role;
use firstread::web::{Access, Rule, rules};
use reqwest::{Client, Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};

use crate::roles::path_of;
use crate::site::{PASSWORD, Site, field, uid};

/// Where refusals themselves are noted.
const TRAIL: [&str; 2] = ["audit_trail", "audit_head"];

async fn column(db: &DatabaseConnection, sql: &str, name: &str) -> Vec<String> {
    let asked = Statement::from_string(DbBackend::Sqlite, sql);
    let rows = db.query_all_raw(asked).await.unwrap();
    let values = rows.iter().map(|r| r.try_get::<Option<String>>("", name));
    values.map(|v| v.unwrap().unwrap_or_default()).collect()
}

/// All that the database holds, by table.
async fn everything(db: &DatabaseConnection) -> BTreeMap<String, String> {
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut all = BTreeMap::new();
    for table in column(db, tables, "name").await {
        if TRAIL.contains(&table.as_str()) {
            continue;
        }
        let columns = format!("SELECT name FROM pragma_table_info('{table}')");
        let columns = column(db, &columns, "name").await;
        let row: Vec<String> = columns.iter().map(|c| format!("quote(\"{c}\")")).collect();
        let row = row.join(" || ',' || ");
        let whole = format!("SELECT group_concat({row}, char(10)) AS whole FROM \"{table}\"");
        all.insert(table, column(db, &whole, "whole").await.concat());
    }
    assert!(all.len() > 20, "{:?}", all.keys());
    all
}

/// Fills in the form of a route so that it would do something.
async fn send(
    site: &Site,
    client: &Client,
    rule: &Rule,
    csrf: Option<&str>,
) -> (StatusCode, String) {
    let action = if rule.path == "/deliveries/{id}" {
        "skip"
    } else {
        "pause"
    };
    let mut fields = vec![
        ("to", "other"),
        ("said", "agree screening"),
        ("name", "mine"),
        ("action", action),
        ("deed", "disable"),
        ("role", "reader"),
        ("scope", "list"),
        ("days", "30"),
        ("answer", "nothing"),
        ("old", PASSWORD),
        ("new", "seven odd grey kettles"),
        ("again", "seven odd grey kettles"),
        ("form_token", "00"),
        ("password", PASSWORD),
    ];
    fields.extend(csrf.map(|csrf| ("csrf", csrf)));
    let path = match rule.path {
        "/destinations/{name}" => "/destinations/room".to_owned(),
        _ => path_of(rule, 1),
    };
    let method = Method::from_bytes(rule.method.as_str().as_bytes()).unwrap();
    let request = client.request(method, site.url(&path)).form(&fields);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// Routes that change something without a bearer token: a browser sends them by itself, cookie and all. A bearer token
/// is sent by nobody's browser, and opens nothing else (`nobody_passes_without_the_role`).
fn changing() -> impl Iterator<Item = &'static Rule> {
    rules()
        .iter()
        .filter(|r| r.method.as_str() != "GET" && !matches!(r.access, Access::Api(_)))
}

/// Number 1 of whatever some routes are about, and an administrator who may do all.
async fn prepared() -> (Site, Client) {
    let site = Site::start().await;
    let now_ms = site.clock.now_ms();
    site.user("other", Role::Reader).await;
    site.token(Role::Reader).await;
    let saved = site.store.save_filter("admin", "kept", "", now_ms).await;
    assert!(saved.unwrap());
    let room = ["room".to_owned()];
    site.store.know_destinations(&room).await.unwrap();
    assert!(site.store.send_test("room", now_ms).await.unwrap());
    let study = site.study(1, 10, 5.0).await;
    assert_eq!(study.study_uid, uid(1));
    let admin = site.signed_in(Role::Admin).await;
    (site, admin)
}

#[tokio::test]
async fn nothing_changes_without_the_token_of_the_session() {
    let (site, admin) = prepared().await;
    let another = site.signed_in_as("another", Role::Admin).await;
    let of_another = field(&site.page(&another, "/account").await, "csrf");
    let db = Database::connect(&site.database_url).await.unwrap();
    let before = everything(&db).await;
    let mut walked = 0;
    for rule in changing() {
        for csrf in [None, Some(""), Some("00"), Some(of_another.as_str())] {
            let what = format!("{} {} with {csrf:?}", rule.method, rule.path);
            let (status, page) = send(&site, &admin, rule, csrf).await;
            match (rule.access, csrf) {
                // What needs no session has a proof of its own, which this form lacks.
                (Access::Public, _) => assert!(status.is_client_error(), "{what}: {status}"),
                (_, None) if status == StatusCode::BAD_REQUEST => {}
                _ => {
                    assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
                    let said = page.contains("The page was open for too long");
                    assert!(said || csrf.is_none(), "{what}: {page}");
                }
            }
            let after = everything(&db).await;
            for (table, rows) in &before {
                assert_eq!(Some(rows), after.get(table), "{what} changed {table}");
            }
        }
        walked += 1;
    }
    assert!(walked >= 25, "{walked}");
}

#[tokio::test]
async fn with_the_token_of_the_session_the_same_forms_are_not_forged() {
    let (site, admin) = prepared().await;
    let of_pages = changing().filter(|r| matches!(r.access, Access::Page(_)));
    // signing out last, for it ends the session
    let (out, others): (Vec<_>, Vec<_>) = of_pages.partition(|r| r.path == "/logout");
    for rule in others.into_iter().chain(out) {
        let csrf = field(&site.page(&admin, "/account").await, "csrf");
        let (status, page) = send(&site, &admin, rule, Some(&csrf)).await;
        let what = format!("{} {}", rule.method, rule.path);
        assert_ne!(status, StatusCode::FORBIDDEN, "{what}: {page}");
        assert!(!status.is_server_error(), "{what}: {status}");
    }
}
