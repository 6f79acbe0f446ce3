//! Nobody is sent to another site by us: not by what stands in an address, and not by the names that a request
//! gives this server.

use firstread::store::accounts::Role;
use firstread::web::{Access, rules};
use reqwest::{Method, Url};

use crate::common::databases;
use crate::marked::encoded;
use crate::site::{PASSWORD, Site, browser, field, uid};

const EVIL: &str = "evil.example";

/// Ways to write another site's address.
const OUT: [&str; 19] = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "////evil.example",
    "/\\evil.example/",
    "\\\\evil.example",
    "/%09/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\u{a0}//evil.example",
    " https://evil.example",
    "https:evil.example",
    "http:/evil.example",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "/worklist\r\nLocation: https://evil.example",
    "@evil.example",
    ".evil.example",
    "/worklist?next=//evil.example\\@",
];

/// Where a browser at this address would go.
fn leads_to(site: &Site, from: &str, location: &str) -> Url {
    Url::parse(&site.url(from)).unwrap().join(location).unwrap()
}

fn is_ours(site: &Site, url: &Url) -> bool {
    let ours = Url::parse(&site.base).unwrap();
    url.origin() == ours.origin() && url.username().is_empty()
}

#[tokio::test]
async fn signing_in_leads_to_no_other_site() {
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    for next in OUT {
        let visitor = browser();
        let query: String = encoded(next);
        let form = visitor.get(site.url(&format!("/login?next={query}")));
        let form = form.send().await.unwrap().text().await.unwrap();
        let filled = [
            ("form_token", field(&form, "form_token")),
            ("name", "reader".to_owned()),
            ("password", PASSWORD.to_owned()),
            ("next", next.to_owned()),
        ];
        // what the page would send, and what somebody else put into the field
        let kept = field(&form, "next");
        for next in [kept.as_str(), next] {
            let mut filled = filled.clone();
            filled[3].1 = next.to_owned();
            let answer = visitor.post(site.url("/login")).form(&filled).send();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 303, "{next:?}");
            let to = answer.headers()["location"].to_str().unwrap();
            let to = leads_to(&site, "/login", to);
            assert!(is_ours(&site, &to), "{next:?} leads to {to}");
            assert!(!answer.headers().contains_key("refresh"));
        }
    }
}

/// Each address that begins like another site's asks a stranger to sign in, and comes back to itself or the first page.
#[tokio::test]
async fn a_stranger_is_sent_to_our_own_sign_in() {
    let site = Site::start().await;
    for path in [
        "//evil.example/",
        "/%2f%2fevil.example",
        "/worklist?x=//evil.example",
    ] {
        let answer = browser()
            .get(format!("{}{path}", site.base))
            .send()
            .await
            .unwrap();
        if let Some(to) = answer.headers().get("location") {
            let to = leads_to(&site, "/", to.to_str().unwrap());
            assert!(is_ours(&site, &to), "{path} leads to {to}");
        }
    }
}

/// Who says that this server has another name changes nothing: no address of ours is made of it.
#[tokio::test]
async fn names_that_a_request_gives_us_are_not_believed() {
    for database in databases().into_iter().take(1) {
        let site = Site::on(&database).await;
        let study = site.study(1, 10, 5.0).await;
        site.picture(&study.study_uid, "axial.png", b"png");
        let person = site.signed_in(Role::Admin).await;
        let csrf = field(&site.page(&person, "/account").await, "csrf");
        let token = async |roles: &[Role]| site.token(roles[0]).await;
        for rule in rules().iter().filter(|r| r.path != "/logout") {
            let path = rule
                .path
                .replace(
                    "/fhir/{type}/{id}",
                    &format!("/fhir/ServiceRequest/{}", uid(1)),
                )
                .replace("{type}", "ImagingStudy")
                .replace("{study_uid}", &uid(1))
                .replace("{series_uid}", &format!("{}.1", uid(1)))
                .replace("{picture}", "axial")
                .replace("{name}/form", "new/form")
                .replace("{name}/preview", "ris/preview")
                .replace("{name}", "firstread.css")
                .replace("{accession}", "ACC-1")
                .replace("{id}", "1")
                .replace("{token}", "1.x");
            let method = Method::from_bytes(rule.method.as_str().as_bytes()).unwrap();
            let mut request = person.request(method, site.url(&path));
            if let Access::Api(roles) = rule.access {
                request = request.bearer_auth(token(roles).await);
            }
            if rule.method == "POST" && !matches!(rule.access, Access::Api(_)) {
                request =
                    request.form(&[("csrf", csrf.as_str()), ("to", "x"), ("said", "agree x")]);
            }
            for (name, value) in [
                ("x-forwarded-host", EVIL),
                ("x-host", EVIL),
                ("x-original-url", "/trail"),
                ("x-rewrite-url", "/trail"),
                ("forwarded", "host=evil.example;proto=https"),
                ("referer", "https://evil.example/"),
            ] {
                request = request.header(name, value);
            }
            let what = format!("{} {path}", rule.method);
            let answer = request.send().await.unwrap();
            let headers = format!("{:?}", answer.headers());
            assert!(!headers.contains(EVIL), "{what}: {headers}");
            if let Some(to) = answer.headers().get("location") {
                let to = leads_to(&site, &path, to.to_str().unwrap());
                assert!(is_ours(&site, &to), "{what} leads to {to}");
            }
            if rule.path == "/events" {
                continue;
            }
            let body = answer.bytes().await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(!body.contains(EVIL), "{what}: {body}");
        }
    }
}
