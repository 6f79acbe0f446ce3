//! Working through the list: who has a study in hand, what is read, what readers say of findings.

use std::collections::BTreeSet;

use firstread::store::accounts::Role;
use firstread::web::WebSettings;
use firstread::worklist::WorklistSettings;
use futures_util::future::join_all;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::common::databases;
use crate::site::{Site, field, uid};

/// A reader at work over the API.
struct Reader<'a> {
    site: &'a Site,
    token: String,
    client: Client,
}

impl<'a> Reader<'a> {
    async fn new(site: &'a Site, name: &str) -> Self {
        Self {
            site,
            token: site.token_of(name, Role::Reader).await,
            client: Client::new(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut request = self
            .client
            .request(method, self.site.url(&format!("/api/v1{path}")))
            .bearer_auth(&self.token);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, n: u32, what: &str, body: Value) -> (u16, Value) {
        let path = format!("/studies/{}/{what}", uid(n));
        self.ask(Method::POST, &path, body).await
    }

    async fn delete(&self, n: u32, what: &str) -> (u16, Value) {
        let path = format!("/studies/{}/{what}", uid(n));
        self.ask(Method::DELETE, &path, Value::Null).await
    }

    /// Claims; true where it worked.
    async fn claims(&self, n: u32) -> bool {
        match self.post(n, "claim", Value::Null).await {
            (200, standing) => standing["study_uid"] == uid(n),
            (409, problem) => problem["code"] != "held",
            other => panic!("{other:?}"),
        }
    }

    async fn study(&self, n: u32) -> Value {
        let path = format!("/studies/{}", uid(n));
        self.ask(Method::GET, &path, Value::Null).await.1
    }

    /// What was done with a study, oldest first: "anna claimed", "anna opened".
    async fn history(&self, n: u32) -> Vec<String> {
        let study = self.study(n).await;
        let events = study["history"].as_array().unwrap().iter().rev();
        let text = |v: &Value| v.as_str().map(|t| format!(" {t}")).unwrap_or_default();
        events
            .map(|e| {
                let who = text(&e["who"]) + &text(&e["what"]) + &text(&e["detail"]);
                who.trim().to_owned()
            })
            .collect()
    }

    /// UIDs of the list, with the filter.
    async fn list(&self, filter: &str) -> Vec<String> {
        let path = format!("/worklist{filter}");
        let (_, list) = self.ask(Method::GET, &path, Value::Null).await;
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|i| i["study_uid"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn of_thirty_two_claimants_one_wins() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=8 {
            site.study(n, 60 - i64::from(n), 5.0).await;
        }
        let mut readers = Vec::new();
        for n in 0..32 {
            readers.push(Reader::new(&site, &format!("reader{n}")).await);
        }
        let all = join_all(readers.iter().map(|r| r.post(1, "claim", Value::Null))).await;
        let winners: Vec<&Value> = all.iter().filter(|a| a.0 == 200).map(|a| &a.1).collect();
        assert_eq!(winners.len(), 1, "{all:?}");
        let winner = winners[0]["assigned_to"].as_str().unwrap();
        for (status, problem) in all.iter().filter(|a| a.0 != 200) {
            assert_eq!((*status, &problem["code"]), (409, &json!("held")));
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.starts_with(&format!("{winner} has this study")),
                "{detail}"
            );
        }
        assert_eq!(readers[0].history(1).await, [format!("{winner} claimed")]);

        // all of them ask for the next one: seven are left, each goes to one of them
        let next = Value::Null;
        let all = join_all(
            readers
                .iter()
                .map(|r| r.ask(Method::POST, "/worklist/next", next.clone())),
        )
        .await;
        assert!(all.iter().all(|a| a.0 == 200), "{all:?}");
        let given: Vec<&str> = all
            .iter()
            .filter_map(|a| a.1["study_uid"].as_str())
            .collect();
        let expected: BTreeSet<String> = (2..=8).map(uid).collect();
        assert_eq!(given.len(), 7);
        assert_eq!(
            given
                .iter()
                .map(|u| (*u).to_owned())
                .collect::<BTreeSet<_>>(),
            expected
        );
        assert!(readers[0].list("?assigned=unassigned").await.is_empty());
    }
}

#[tokio::test]
async fn a_claim_ends_without_activity() {
    for database in databases() {
        let settings = WebSettings {
            worklist: WorklistSettings {
                claim_idle_minutes: 30,
                ..WorklistSettings::default()
            },
            ..WebSettings::default()
        };
        let site = Site::with(&database, settings).await;
        site.study(1, 60, 5.0).await;
        let page = site.signed_in_as("anna", Role::Reader).await;
        let (anna, bert) = (
            Reader::new(&site, "anna").await,
            Reader::new(&site, "bert").await,
        );
        let minutes = |n: i64| site.clock.advance_ms(n * 60_000);
        assert!(anna.claims(1).await);
        assert!(!bert.claims(1).await);
        minutes(29);
        assert!(!bert.claims(1).await);
        // she opens it: that is activity; what her browser does by itself is not
        site.page(&page, &format!("/studies/{}", uid(1))).await;
        minutes(29);
        site.page(&page, &format!("/studies/{}?fragment=1", uid(1)))
            .await;
        assert!(!bert.claims(1).await);
        assert_eq!(
            anna.study(1).await["claimed_at"],
            "2026-11-23T12:00:00.000Z"
        );
        minutes(1);
        let free = bert.list("?assigned=unassigned").await;
        assert_eq!(free, [uid(1)], "30 min after the last activity it is free");
        assert!(bert.claims(1).await);
        assert_eq!(bert.study(1).await["assigned_to"], "bert");
        assert!(!anna.claims(1).await);
        assert_eq!(
            anna.history(1).await,
            ["anna claimed", "anna opened", "bert claimed anna"]
        );
    }
}

#[tokio::test]
async fn a_study_goes_from_hand_to_hand_and_off_the_list() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=3 {
            site.study(n, 60 - i64::from(n), 5.0).await;
        }
        site.user("bert", Role::Reader).await;
        site.user("tech", Role::Technologist).await;
        let (anna, bert) = (
            Reader::new(&site, "anna").await,
            Reader::new(&site, "bert").await,
        );
        assert!(anna.claims(1).await);
        assert!(anna.claims(1).await, "twice is once");
        for nobody in ["tech", "carl", ""] {
            let (status, problem) = anna.post(1, "hand-over", json!({ "to": nobody })).await;
            assert_eq!((status, &problem["code"]), (422, &json!("unknown_reader")));
        }
        assert_eq!(
            anna.post(1, "hand-over", json!({"for": "bert"})).await.0,
            400
        );
        let (_, standing) = anna.post(1, "hand-over", json!({ "to": "bert" })).await;
        assert_eq!(standing["assigned_to"], "bert");
        for (what, body) in [
            ("hand-over", json!({"to": "bert"})),
            ("read", Value::Null),
            ("claim", Value::Null),
        ] {
            let (status, problem) = anna.post(1, what, body).await;
            assert_eq!((status, &problem["code"]), (409, &json!("held")), "{what}");
        }
        assert_eq!(anna.delete(1, "claim").await.0, 409);
        assert_eq!(anna.list("?assigned=me").await, Vec::<String>::new());
        assert_eq!(bert.list("?assigned=me").await, [uid(1)]);
        assert_eq!(bert.list("?assigned=unassigned").await, [uid(2), uid(3)]);

        // read: off the list, reachable, nobody's; undone: as it was
        let (_, standing) = bert.post(1, "read", Value::Null).await;
        assert_eq!(
            (&standing["reading"], &standing["assigned_to"]),
            (&json!("read"), &Value::Null)
        );
        assert_eq!(
            bert.post(1, "read", Value::Null).await.0,
            200,
            "twice is once"
        );
        assert_eq!(anna.list("").await, [uid(2), uid(3)]);
        assert_eq!(
            anna.post(1, "claim", Value::Null).await.1["code"],
            "not_open"
        );
        let (_, standing) = bert.delete(1, "read").await;
        assert_eq!(
            (&standing["reading"], &standing["assigned_to"]),
            (&json!("open"), &json!("bert"))
        );
        assert_eq!(anna.list("").await, [uid(1), uid(2), uid(3)]);
        assert_eq!(bert.delete(1, "claim").await.1["assigned_to"], Value::Null);
        assert_eq!(bert.delete(1, "claim").await.0, 200, "twice is once");
        assert_eq!(
            anna.history(1).await,
            [
                "anna claimed",
                "anna handed_over bert",
                "bert read",
                "bert undone",
                "bert released"
            ]
        );

        // read without a claim; another reader puts it back, for whoever comes
        bert.post(2, "read", Value::Null).await;
        let (_, standing) = anna.delete(2, "read").await;
        assert_eq!(
            (&standing["reading"], &standing["assigned_to"]),
            (&json!("open"), &Value::Null)
        );
        assert_eq!(anna.history(2).await, ["bert read", "anna reopened"]);
        assert_eq!(anna.post(9, "claim", Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn the_next_case_follows_order_and_filters() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=3 {
            site.study(n, 60 - i64::from(n), 5.0).await;
        }
        let (anna, bert) = (
            Reader::new(&site, "anna").await,
            Reader::new(&site, "bert").await,
        );
        let next = async |reader: &Reader<'_>, filter: &str| {
            let path = format!("/worklist/next{filter}");
            reader.ask(Method::POST, &path, Value::Null).await.1["study_uid"].clone()
        };
        assert_eq!(next(&anna, "?q=family3").await, json!(uid(3)));
        assert_eq!(next(&bert, "").await, json!(uid(1)));
        assert_eq!(next(&anna, "?band=urgent").await, Value::Null);
        assert_eq!(next(&anna, "").await, json!(uid(2)));
        assert_eq!(next(&anna, "").await, Value::Null);
        bert.delete(1, "claim").await;
        assert_eq!(next(&anna, "").await, json!(uid(1)));
    }
}

#[tokio::test]
async fn readers_say_what_they_think_of_a_finding() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 60, 5.0).await;
        site.screening_with(&study, |_| {}).await;
        let anna = Reader::new(&site, "anna").await;
        let say = async |finding: &str, verdict: &str, comment: Value| {
            let body = json!({"finding": finding, "verdict": verdict, "comment": comment});
            anna.post(1, "feedback", body).await
        };
        for (finding, verdict, comment, code) in [
            ("screening", "normal", Value::Null, "unknown_verdict"),
            ("screening", "comment", json!(" "), "no_comment"),
            ("screening", "agree", json!("x".repeat(1001)), "bad_comment"),
            ("order_stat", "agree", Value::Null, "unknown_finding"),
        ] {
            let (status, problem) = say(finding, verdict, comment).await;
            assert_eq!((status, &problem["code"]), (422, &json!(code)));
        }
        assert_eq!(say("screening", "disagree", Value::Null).await.0, 200);
        assert_eq!(say("screening", "disagree", Value::Null).await.0, 200);
        let (_, kept) = say("screening", "agree", json!("on second thought")).await;
        let said: Vec<_> = kept["feedback"].as_array().unwrap().iter().collect();
        assert_eq!(said.len(), 2, "the same twice is once: {said:?}");
        assert_eq!(said[0]["verdict"], "agree");
        assert_eq!(said[0]["comment"], "on second thought");
        assert_eq!(said[0]["who"], "anna");
        assert_eq!(said[0]["model"], "screening 0.0.1");
        assert_eq!(said[1]["verdict"], "disagree");
    }
}

#[tokio::test]
async fn pages_work_by_forms_of_their_own() {
    let site = Site::start().await;
    site.study(1, 60, 5.0).await;
    site.study(2, 50, 5.0).await;
    let anna = site.signed_in_as("anna", Role::Reader).await;
    let bert = site.signed_in_as("bert", Role::Reader).await;
    let auditor = site.signed_in_as("ruth", Role::Auditor).await;
    let page = site.page(&anna, "/worklist").await;
    let csrf = field(&page, "csrf");
    let study = format!("/studies/{}", uid(1));
    let send = async |path: &str, fields: &[(&str, &str)]| {
        let form = anna.post(site.url(path)).form(fields);
        form.send().await.unwrap()
    };
    let bert_csrf = field(&site.page(&bert, "/worklist").await, "csrf");
    for wrong in ["", "00", &bert_csrf] {
        for deed in ["claim", "release", "hand-over", "read", "undo", "feedback"] {
            let answer = send(
                &format!("{study}/{deed}"),
                &[("csrf", wrong), ("to", "bert")],
            )
            .await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{deed}");
        }
        let answer = send("/worklist/next", &[("csrf", wrong)]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    let elsewhere = anna
        .post(site.url(&format!("{study}/claim")))
        .header("sec-fetch-site", "cross-site")
        .form(&[("csrf", &csrf)]);
    assert_eq!(
        elsewhere.send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );

    let answer = send("/worklist/next", &[("csrf", &csrf)]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], study);
    assert!(site.page(&anna, &study).await.contains("In your hands"));
    assert!(
        site.page(&bert, &study)
            .await
            .contains("In the hands of <bdi>anna</bdi>")
    );
    assert!(
        site.page(&bert, "/worklist")
            .await
            .contains("<bdi>anna</bdi>")
    );
    let mine = site.page(&anna, "/worklist?assigned=me").await;
    assert!(mine.contains("Family1") && !mine.contains("Family2"));

    // what another reader has: a page for people, a problem for the script
    for (quiet, kind) in [("", "text/html"), ("1", "application/problem+json")] {
        let claim = bert.post(site.url(&format!("{study}/claim")));
        let answer = claim.form(&[("csrf", bert_csrf.as_str()), ("quiet", quiet)]);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        assert!(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with(kind)
        );
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains("anna has this study in hand")
        );
    }
    let said = [("csrf", csrf.as_str()), ("said", "disagree screening")];
    send(&format!("{study}/feedback"), &said).await;
    assert!(site.page(&bert, &study).await.contains("anna disagrees"));

    let answer = send(&format!("{study}/read"), &[("csrf", &csrf)]).await;
    let list = answer.headers()["location"].to_str().unwrap().to_owned();
    let page = site.page(&anna, &list).await;
    assert!(page.contains("Marked read") && page.contains("1 open study"));
    assert!(
        site.page(&bert, &study)
            .await
            .contains("Read: no longer on the open list")
    );
    send(&format!("{study}/undo"), &[("csrf", &csrf), ("quiet", "1")]).await;
    let page = site.page(&anna, &list).await;
    assert!(!page.contains("Marked read") && page.contains("2 open studies"));

    // who only looks is offered nothing
    for path in ["/worklist", &study] {
        let page = site.page(&auditor, path).await;
        assert!(
            !page.contains("id=\"act\"") && !page.contains("formaction"),
            "{path}"
        );
        assert!(page.contains("anna"), "{path}");
    }
    send("/worklist/next", &[("csrf", &csrf)]).await;
    let answer = send("/worklist/next", &[("csrf", &csrf)]).await;
    let list = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        site.page(&anna, &list)
            .await
            .contains("every study of this list is claimed or read")
    );
}
