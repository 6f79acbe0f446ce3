//! Every route times every role, from the one table: a new route is in the matrix by itself.

use firstread::clock::Clock;
use firstread::store::accounts::Role;
use firstread::web::{Access, Rule, rules};
use reqwest::{Client, Method, RequestBuilder, StatusCode};

use crate::site::{Site, browser, field, uid};

/// What is expected of each route, written down once more: a change of the table must be meant.
const EXPECTED: &[(&str, &str, &str)] = &[
    (
        "GET",
        "/",
        "page: reader technologist admin auditor integration",
    ),
    ("GET", "/login", "public"),
    ("POST", "/login", "public"),
    ("GET", "/login/sso", "public"),
    ("GET", "/login/sso/back", "public"),
    (
        "POST",
        "/logout",
        "page: reader technologist admin auditor integration",
    ),
    ("GET", "/worklist", "page: reader admin auditor"),
    ("GET", "/events", "page: reader admin auditor"),
    ("GET", "/studies/{study_uid}", "page: reader admin auditor"),
    (
        "GET",
        "/studies/{study_uid}/series/{series_uid}/{picture}.png",
        "page: reader admin auditor",
    ),
    (
        "GET",
        "/studies/{study_uid}/report",
        "page: reader admin auditor",
    ),
    (
        "GET",
        "/studies/{study_uid}/report.pdf",
        "page: reader admin auditor",
    ),
    ("POST", "/worklist/next", "page: reader admin"),
    ("POST", "/worklist/filters", "page: reader admin auditor"),
    (
        "POST",
        "/worklist/filters/{id}",
        "page: reader admin auditor",
    ),
    (
        "POST",
        "/studies/{study_uid}/acknowledge",
        "page: reader admin",
    ),
    ("POST", "/studies/{study_uid}/claim", "page: reader admin"),
    ("POST", "/studies/{study_uid}/release", "page: reader admin"),
    (
        "POST",
        "/studies/{study_uid}/hand-over",
        "page: reader admin",
    ),
    ("POST", "/studies/{study_uid}/read", "page: reader admin"),
    ("POST", "/studies/{study_uid}/undo", "page: reader admin"),
    (
        "POST",
        "/studies/{study_uid}/feedback",
        "page: reader admin",
    ),
    ("GET", "/settings", "page: reader admin auditor"),
    ("POST", "/settings", "page: admin"),
    ("GET", "/simulate", "page: reader admin auditor"),
    ("GET", "/agreement", "page: reader admin auditor"),
    ("GET", "/second-opinion", "page: reader admin auditor"),
    ("POST", "/studies/{study_uid}/outcome", "page: reader admin"),
    ("GET", "/audit", "page: reader admin"),
    ("POST", "/audit/{study_uid}", "page: reader admin"),
    ("GET", "/shown", "page: admin auditor"),
    ("GET", "/system", "page: admin auditor"),
    ("GET", "/intake", "page: technologist reader admin auditor"),
    ("GET", "/deliveries", "page: admin auditor"),
    ("GET", "/alerts", "page: reader admin auditor"),
    ("GET", "/deliveries/{id}", "page: admin auditor"),
    ("POST", "/deliveries/{id}/message", "page: admin auditor"),
    ("POST", "/deliveries/{id}", "page: admin"),
    ("GET", "/destinations", "page: admin auditor"),
    ("GET", "/destinations/{name}/form", "page: admin"),
    ("POST", "/destinations/{name}/form", "page: admin"),
    ("GET", "/destinations/{name}/preview", "page: admin"),
    ("POST", "/destinations/{name}/preview", "page: admin"),
    ("POST", "/destinations/{name}", "page: admin"),
    (
        "GET",
        "/account",
        "page: reader technologist admin auditor integration",
    ),
    (
        "POST",
        "/account/password",
        "page: reader technologist admin auditor integration",
    ),
    ("GET", "/accounts", "page: admin auditor"),
    ("POST", "/accounts", "page: admin"),
    ("POST", "/accounts/{id}", "page: admin"),
    ("POST", "/tokens", "page: admin"),
    ("POST", "/tokens/{id}", "page: admin"),
    ("GET", "/trail", "page: admin auditor"),
    ("GET", "/trail/export", "page: admin auditor"),
    ("GET", "/trail/patient", "page: admin auditor"),
    ("GET", "/trail/patient/export", "page: admin auditor"),
    ("GET", "/a/{token}", "public"),
    ("POST", "/a/{token}", "public"),
    ("GET", "/static/{name}", "public"),
    ("GET", "/favicon.ico", "public"),
    (
        "GET",
        "/api/v1/worklist",
        "api: reader admin auditor integration",
    ),
    (
        "GET",
        "/api/v1/studies/{study_uid}",
        "api: reader admin auditor integration",
    ),
    ("POST", "/api/v1/worklist/next", "api: reader admin"),
    (
        "POST",
        "/api/v1/studies/{study_uid}/claim",
        "api: reader admin",
    ),
    (
        "DELETE",
        "/api/v1/studies/{study_uid}/claim",
        "api: reader admin",
    ),
    (
        "POST",
        "/api/v1/studies/{study_uid}/hand-over",
        "api: reader admin",
    ),
    (
        "POST",
        "/api/v1/studies/{study_uid}/read",
        "api: reader admin",
    ),
    (
        "DELETE",
        "/api/v1/studies/{study_uid}/read",
        "api: reader admin",
    ),
    (
        "POST",
        "/api/v1/studies/{study_uid}/feedback",
        "api: reader admin",
    ),
    (
        "POST",
        "/api/v1/studies/{study_uid}/outcome",
        "api: reader admin",
    ),
    ("PUT", "/api/v1/orders/{accession}", "api: integration"),
    ("GET", "/fhir/metadata", "public"),
    ("GET", "/fhir/Subscription", "api: integration admin"),
    ("POST", "/fhir/Subscription", "api: integration admin"),
    ("GET", "/fhir/Subscription/{id}", "api: integration admin"),
    (
        "DELETE",
        "/fhir/Subscription/{id}",
        "api: integration admin",
    ),
    (
        "GET",
        "/fhir/{type}",
        "api: reader admin auditor integration",
    ),
    (
        "GET",
        "/fhir/{type}/{id}",
        "api: reader admin auditor integration",
    ),
    ("PUT", "/fhir/{type}/{id}", "api: integration"),
    ("GET", "/healthz", "public"),
    ("GET", "/readyz", "public"),
    ("GET", "/metrics", "public"),
    ("GET", "/robots.txt", "public"),
];

fn spelled(rule: &Rule) -> String {
    let names = |roles: &[Role]| {
        let names: Vec<&str> = roles.iter().map(|r| r.as_str()).collect();
        names.join(" ")
    };
    match rule.access {
        Access::Public => "public".to_owned(),
        Access::Page(roles) => format!("page: {}", names(roles)),
        Access::Api(roles) => format!("api: {}", names(roles)),
    }
}

#[test]
fn the_table_is_what_was_meant() {
    let found: Vec<(String, String, String)> = rules()
        .iter()
        .map(|r| (r.method.to_string(), r.path.to_owned(), spelled(r)))
        .collect();
    let expected: Vec<(String, String, String)> = EXPECTED
        .iter()
        .map(|(m, p, a)| ((*m).to_owned(), (*p).to_owned(), (*a).to_owned()))
        .collect();
    assert_eq!(found, expected);
}

/// The path of a rule with names in place of its patterns: on study `n`.
pub fn path_of(rule: &Rule, n: u32) -> String {
    rule.path
        .replace(
            "/fhir/{type}/{id}",
            &format!("/fhir/ServiceRequest/{}", uid(n)),
        )
        .replace("/export", "/export?format=csv&patient=PAT-1")
        .replace("{name}/form", "new/form")
        .replace("{name}/preview", "ris/preview")
        .replace("{type}", "ImagingStudy")
        .replace("{study_uid}", &uid(n))
        .replace("{series_uid}", &format!("{}.1", uid(n)))
        .replace("{picture}", "axial")
        .replace("{name}", "firstread.css")
        .replace("{id}", "1")
        .replace("{token}", "1.x")
        .replace("{accession}", "ACC-1")
}

/// A request that the rule lets do something: on study `n`, with `csrf` in its form.
fn request(site: &Site, client: &Client, rule: &Rule, n: u32, csrf: &str) -> RequestBuilder {
    let path = path_of(rule, n);
    let method = Method::from_bytes(rule.method.as_str().as_bytes()).unwrap();
    let request = client.request(method.clone(), site.url(&path));
    let asks = rule.path.rsplit('/').next().unwrap_or_default();
    match method.as_str() {
        "POST" if rule.path.starts_with("/api/") => match asks {
            "hand-over" => request.body("{\"to\":\"other\"}"),
            "outcome" => request.body("{\"outcome\":\"abnormal\"}"),
            "feedback" => request.body("{\"finding\":\"screening\",\"verdict\":\"agree\"}"),
            _ => request,
        },
        "POST" if rule.path.starts_with("/fhir/") => request.json(&crate::subscriptions::asked()),
        "POST" => request.form(&[
            ("csrf", csrf),
            ("to", "other"),
            ("said", "agree screening"),
            ("name", "mine"),
        ]),
        "PUT" if rule.path.starts_with("/fhir/") => request.json(&serde_json::json!({
            "resourceType": "ServiceRequest", "id": uid(n), "priority": "stat",
        })),
        "PUT" => request
            .header("idempotency-key", "1")
            .body("{\"priority\":\"stat\"}"),
        _ => request,
    }
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn nobody_passes_without_the_role() {
    let site = Site::start().await;
    site.user("other", Role::Reader).await;
    // the delivery that some rules are about
    let now_ms = site.clock.now_ms();
    let room = ["room".to_owned()];
    site.store.know_destinations(&room).await.unwrap();
    assert!(site.store.send_test("room", now_ms).await.unwrap());
    // each rule meets a study that nobody has touched
    let mut n = 0;
    for role in Role::ALL {
        let person = site.signed_in(role).await;
        let csrf = field(&site.page(&person, "/account").await, "csrf");
        let token = site.token(role).await;
        for rule in rules().iter().filter(|r| r.path != "/logout") {
            let what = format!("{} {} as {}", rule.method, rule.path, role.as_str());
            n += 1;
            let study = site.study(n, 10, 5.0).await;
            site.picture(&study.study_uid, "axial.png", b"png");
            let by_cookie = status(request(&site, &person, rule, n, &csrf)).await;
            let by_token =
                status(request(&site, &browser(), rule, n, &csrf).bearer_auth(&token)).await;
            match rule.access {
                Access::Public => assert_ne!(by_cookie, StatusCode::FORBIDDEN, "{what}"),
                Access::Page(roles) if roles.contains(&role) => {
                    // A form that was not filled in is let through the gate and refused behind it.
                    let unfilled = rule.method.as_str() == "POST"
                        && match rule.path {
                            "/settings"
                            | "/audit/{study_uid}"
                            | "/studies/{study_uid}/outcome"
                            | "/account/password"
                            | "/accounts"
                            | "/tokens" => by_cookie == StatusCode::UNPROCESSABLE_ENTITY,
                            "/worklist/filters/{id}" | "/destinations/{name}/form" => {
                                by_cookie == StatusCode::NOT_FOUND
                            }
                            _ => by_cookie == StatusCode::BAD_REQUEST,
                        };
                    assert!(
                        by_cookie.is_success() || by_cookie == StatusCode::SEE_OTHER || unfilled,
                        "{what}: {by_cookie}"
                    );
                    assert!(!by_token.is_success(), "{what}: a token opens no page");
                }
                Access::Page(_) => {
                    assert_eq!(by_cookie, StatusCode::FORBIDDEN, "{what}");
                    assert!(!by_token.is_success(), "{what}");
                }
                Access::Api(roles) => {
                    assert_eq!(
                        by_cookie,
                        StatusCode::UNAUTHORIZED,
                        "{what}: a cookie is no token"
                    );
                    let expected = if roles.contains(&role) {
                        StatusCode::OK
                    } else {
                        StatusCode::FORBIDDEN
                    };
                    let of_others = by_token == StatusCode::NOT_FOUND;
                    if rule.path.starts_with("/fhir/Subscription") && expected == StatusCode::OK {
                        assert!(by_token.is_success() || of_others, "{what}: {by_token}");
                    } else {
                        assert_eq!(by_token, expected, "{what}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn strangers_see_nothing_and_every_answer_is_protected() {
    let site = Site::start().await;
    site.study(1, 10, 5.0).await;
    for rule in rules() {
        let answer = request(&site, &browser(), rule, 1, "")
            .send()
            .await
            .unwrap();
        let what = format!("{} {}", rule.method, rule.path);
        if rule.access != Access::Public {
            let status = answer.status();
            assert!(
                [StatusCode::SEE_OTHER, StatusCode::UNAUTHORIZED].contains(&status),
                "{what}: {status}"
            );
        }
        let headers = answer.headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(headers["x-content-type-options"], "nosniff", "{what}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{what}");
        if !rule.path.starts_with("/static") {
            assert!(headers.contains_key("cache-control"), "{what}");
        }
        let body = answer.text().await.unwrap();
        assert!(
            !body.contains("Family1") && !body.contains("PAT-1"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_there() {
    let site = Site::start().await;
    let admin = site.signed_in(Role::Admin).await;
    for path in [
        "/admin",
        "/.git/config",
        "/static/../../etc/passwd",
        "/api/v2/worklist",
    ] {
        assert_eq!(
            status(admin.get(site.url(path))).await,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let answer = admin.delete(site.url("/worklist")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "GET");
}
