//! The audit trail: what is kept, that it stays one unbroken line, and that changing it shows.

use std::time::Duration;

use firstread::store::Store;
use firstread::store::accounts::Role;
use firstread::store::trail::{Deed, Entry, Verdict, Wanted};
use firstread::worklist::Acting;
use firstread::worklist::opinion::ReadAs;
use reqwest::{Client, StatusCode};
use sea_orm::{ActiveValue::Set, ConnectionTrait as _, Database as Connection};
use serde_json::Value;

use crate::common::databases;
use crate::site::{NOON_MS, PASSWORD, Site, browser, field, uid};

async fn all(site: &Site) -> Vec<Entry> {
    site.store.trail_after(&Wanted::default(), 0).await.unwrap()
}

/// As "actor action outcome patient".
fn short(entry: &Entry) -> String {
    let patient = entry.patient_id.as_deref().unwrap_or("-");
    format!(
        "{} {} {} {patient}",
        entry.actor, entry.action, entry.outcome
    )
}

#[tokio::test]
async fn who_saw_and_did_what_is_kept_in_order() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 10, 5.0).await;
        site.user("anna", Role::Reader).await;
        let client = browser();
        site.sign_in(&client, "anna", "a wrong password").await;
        site.sign_in(&client, "anna", PASSWORD).await;
        let list = site.page(&client, "/worklist?q=Family1").await;
        site.page(&client, &format!("/studies/{}", uid(1))).await;
        let csrf = field(&list, "csrf");
        let claim = client.post(site.url(&format!("/studies/{}/claim", uid(1))));
        claim.form(&[("csrf", &csrf)]).send().await.unwrap();
        let refused = client.get(site.url("/trail")).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let token = site.token_of("dash", Role::Reader).await;
        let api = browser().get(site.url(&format!("/api/v1/studies/{}", uid(1))));
        api.bearer_auth(&token).send().await.unwrap();
        let unknown = browser()
            .get(site.url("/api/v1/worklist"))
            .bearer_auth("frt_none");
        unknown.send().await.unwrap();
        let out = client.post(site.url("/logout")).form(&[("csrf", &csrf)]);
        out.send().await.unwrap();
        let found = all(&site).await;
        let said: Vec<String> = found.iter().map(short).collect();
        assert_eq!(
            said,
            [
                "anna login refused -",
                "anna login done -",
                "anna list.view done -",
                "anna study.view done PAT-1",
                "anna study.claim done PAT-1",
                "anna trail.view refused -",
                "dash study.view done PAT-1",
                "nobody signed in list.view refused -",
                "anna logout done -",
            ]
        );
        assert_eq!(found[2].detail.as_deref(), Some("q=Family1"));
        assert_eq!(found[3].study_uid, Some(uid(1)));
        assert_eq!(found[6].actor_kind, "token");
        assert_eq!(found[0].from.as_deref(), Some("127.0.0.1"));
        let text = serde_json::to_string(&found).unwrap();
        for secret in [PASSWORD, &token, &csrf, "a wrong password"] {
            assert!(!text.contains(secret), "a secret is in the trail");
        }
        let whole = site.store.verify_trail(None).await.unwrap();
        assert!(
            matches!(whole, Verdict::Whole { entries: 9, .. }),
            "{whole:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_is_one_line_with_several_writers() {
    for database in databases() {
        let site = Site::on(&database).await;
        let mut writers = Vec::new();
        for n in 0..6 {
            // two stores stand for two processes
            let store = Store::open(Some(&site.database_url), site.data.path())
                .await
                .unwrap();
            writers.push(tokio::spawn(async move {
                for i in 0..15 {
                    let deed = |k: i64| Deed {
                        at_ms: i * 10 + k,
                        actor: format!("writer {n}"),
                        action: "list.view".into(),
                        ..Deed::default()
                    };
                    store.keep_deeds(&[deed(0), deed(1)]).await.unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let entries = all(&site).await;
        assert_eq!(entries.len(), 180);
        assert!(entries.windows(2).all(|w| w[1].seq == w[0].seq + 1));
        let head = entries.last().unwrap();
        let whole = Verdict::Whole {
            entries: 180,
            head: head.digest.clone(),
        };
        assert_eq!(site.store.verify_trail(None).await.unwrap(), whole);
        let noted = Some((head.seq, head.digest.as_str()));
        assert_eq!(site.store.verify_trail(noted).await.unwrap(), whole);
    }
}

#[tokio::test]
async fn changing_removing_and_cutting_shows() {
    for database in databases() {
        let site = Site::on(&database).await;
        let deed = |n: i64| Deed {
            at_ms: n,
            actor: "anna".into(),
            action: "study.view".into(),
            ..Deed::default()
        };
        let deeds: Vec<Deed> = (0..8).map(deed).collect();
        site.store.keep_deeds(&deeds).await.unwrap();
        let head = site.store.trail_head().await.unwrap();
        let db = Connection::connect(&site.database_url).await.unwrap();
        // the database itself refuses
        for refused in [
            "UPDATE audit_trail SET actor = 'bert' WHERE id = 3",
            "DELETE FROM audit_trail WHERE id = 3",
        ] {
            let said = db
                .execute_unprepared(refused)
                .await
                .unwrap_err()
                .to_string();
            assert!(said.contains("only ever added to"), "{said}");
        }
        // whoever owns the database can take that away; then it shows
        let unguard: &[&str] = if site.store.is_postgres() {
            &["DROP TRIGGER audit_trail_kept ON audit_trail"]
        } else {
            &[
                "DROP TRIGGER audit_trail_no_UPDATE",
                "DROP TRIGGER audit_trail_no_DELETE",
            ]
        };
        for statement in unguard {
            db.execute_unprepared(statement).await.unwrap();
        }
        let check = async |statement: &str, seq: i64, word: &str| {
            db.execute_unprepared(statement).await.unwrap();
            let noted = Some((head.0, head.1.as_str()));
            match site.store.verify_trail(noted).await.unwrap() {
                Verdict::Broken { seq: at, why } => {
                    assert_eq!(at, seq, "{statement}: {why}");
                    assert!(why.contains(word), "{statement}: {why}");
                }
                whole @ Verdict::Whole { .. } => panic!("{statement}: {whole:?}"),
            }
        };
        check(
            "UPDATE audit_trail SET actor = 'bert' WHERE id = 3",
            3,
            "changed",
        )
        .await;
        db.execute_unprepared("UPDATE audit_trail SET actor = 'anna' WHERE id = 3")
            .await
            .unwrap();
        check(
            "UPDATE audit_trail SET patient_id = 'P' WHERE id = 5",
            5,
            "changed",
        )
        .await;
        db.execute_unprepared("UPDATE audit_trail SET patient_id = NULL WHERE id = 5")
            .await
            .unwrap();
        let cut = "DELETE FROM audit_trail WHERE id > 6";
        check(cut, 7, "missing").await;
        // with its head rewritten to fit, only what was noted elsewhere tells
        let last = site
            .store
            .trail_before(&Wanted::default(), 7, 1)
            .await
            .unwrap();
        let digest = &last[0].digest;
        let fit = format!("UPDATE audit_head SET seq = 6, digest = '{digest}'");
        check(&fit, 7, "cut off").await;
        check("DELETE FROM audit_trail WHERE id = 2", 2, "missing").await;
    }
}

#[tokio::test]
async fn an_auditor_filters_exports_and_answers_a_patient() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 10, 5.0).await;
        site.study_with(2, 20, 5.0, |row| {
            row.patient_id = Set(Some("=cmd()".into()));
        })
        .await;
        let anna = site.signed_in_as("anna <b>&", Role::Reader).await;
        for n in [1, 1, 2] {
            site.page(&anna, &format!("/studies/{}", uid(n))).await;
        }
        site.page(&anna, "/worklist").await;
        let auditor = site.signed_in(Role::Auditor).await;
        let page = site
            .page(&auditor, "/trail?action=study.&patient=PAT-1")
            .await;
        assert_eq!(page.matches("Saw the study").count(), 2, "{page}");
        assert!(
            page.contains("anna &#60;b&#62;&#38;") && !page.contains("anna <b>"),
            "{page}"
        );
        for (query, n) in [
            ("actor=anna+%3Cb%3E%26", 5),
            ("actor=nobody", 0),
            ("from=2026-11-23&until=2026-11-23&action=study.", 3),
            ("from=2026-11-24", 0),
            ("until=2026-11-22", 0),
        ] {
            let path = format!("/trail/export?format=jsonl&{query}");
            let lines = site.page(&auditor, &path).await;
            assert_eq!(lines.lines().count(), n, "{query}: {lines}");
        }
        let bad = auditor
            .get(site.url("/trail?from=yesterday"))
            .send()
            .await
            .unwrap();
        assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
        let csv = site
            .page(&auditor, "/trail/export?format=csv&action=study.view")
            .await;
        assert!(csv.starts_with("seq,at,actor,"), "{csv}");
        assert!(
            csv.contains(",'=cmd(),"),
            "a spreadsheet must not reckon it: {csv}"
        );
        // an exported line can be reckoned again by whoever has it
        let line = site
            .page(&auditor, "/trail/export?format=jsonl&action=study.view")
            .await;
        let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        let fields = [
            "seq",
            "at_ms",
            "actor",
            "actor_kind",
            "role",
            "from",
            "action",
            "outcome",
            "study_uid",
            "patient_id",
            "patient_issuer",
            "subject",
            "detail",
            "previous",
        ];
        let said: Vec<_> = fields.iter().map(|f| line[f].clone()).collect();
        let digest = firstread::store::accounts::digest(&serde_json::to_string(&said).unwrap());
        assert_eq!(line["digest"], digest);

        let mut page = String::new();
        for _ in 0..50 {
            // what was shown of the list is written beside the answer
            page = site.page(&auditor, "/trail/patient?patient=PAT-1").await;
            if !page.contains("as far as that is kept") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(
            page.contains("<td class=\"num\">2</td><td class=\"num\">1</td>"),
            "{page}"
        );
        assert!(
            !page.contains("as far as that is kept"),
            "the list is missing: {page}"
        );
        let own = all(&site).await;
        let own = own
            .iter()
            .rev()
            .find(|e| e.action == "patient.report")
            .unwrap();
        assert_eq!(own.subject.as_deref(), Some("PAT-1"), "looking is kept too");
        let export = "/trail/patient/export?format=jsonl&patient=PAT-1";
        let lines = site.page(&auditor, export).await;
        assert_eq!(lines.lines().count(), 3, "two entries and a list: {lines}");
    }
}

/// The report on a patient, once it says all this: what was shown is written beside the answer.
async fn report(site: &Site, auditor: &Client, patient: &str, words: &[String]) -> String {
    let path = format!("/trail/patient?patient={patient}");
    let mut page = String::new();
    for _ in 0..100 {
        page = site.page(auditor, &path).await;
        if words.iter().all(|word| page.contains(word)) {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let missing: Vec<_> = words.iter().filter(|w| !page.contains(*w)).collect();
    panic!("{missing:?} missing: {page}");
}

#[tokio::test]
async fn a_patient_is_told_of_every_list_and_of_what_was_sent() {
    for database in databases() {
        let site = crate::quality::drawing(&database, 0.0).await;
        let auditor = site.signed_in(Role::Auditor).await;
        let study = site.study(1, 10, 5.0).await;
        let technologist = site.signed_in_as("tom", Role::Technologist).await;
        site.page(&technologist, "/intake").await;
        // never shown below
        site.study(2, 10, 5.0).await;
        site.flag(&study, false).await;
        let anna = site.signed_in_as("anna", Role::Reader).await;
        site.page(&anna, "/worklist?q=Family1").await;
        let ris = site.token_of("ris", Role::Integration).await;
        for path in [
            "/api/v1/worklist?q=Family1",
            "/api/v1/worklist?q=Family1",
            "/fhir/ImagingStudy?subject:identifier=PAT-1",
            "/fhir/ImagingStudy?subject:identifier=nobody",
        ] {
            let asked = browser().get(site.url(path)).bearer_auth(&ris);
            assert_eq!(asked.send().await.unwrap().status(), StatusCode::OK);
        }
        let token = site.token_of("anna", Role::Reader).await;
        let next = browser()
            .post(site.url("/api/v1/worklist/next?q=Family1"))
            .bearer_auth(&token);
        assert_eq!(next.send().await.unwrap().status(), StatusCode::OK);
        let acting = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_800_000,
        };
        let study_uid = uid(1);
        site.store.mark_read(&study_uid, acting).await.unwrap();
        let said = site
            .store
            .say_outcome(&study_uid, ReadAs::Unremarkable, acting)
            .await;
        assert!(said.unwrap());
        site.page(&anna, "/second-opinion").await;

        let row = |who: &str, way: &str| {
            format!("<td><bdi>{who}</bdi></td><td>{way}</td><td class=\"num\">1</td>")
        };
        let all = [
            row("anna", "Second opinion"),
            row("anna", "Worklist"),
            row("ris", "API"),
            row("ris", "FHIR"),
            row("tom", "Intake"),
        ];
        let page = report(&site, &auditor, "PAT-1", &all).await;
        assert!(page.contains("Claimed the study"), "by API: {page}");
        assert!(!page.contains("Alert: "), "not delivered yet: {page}");
        let db = Connection::connect(&site.database_url).await.unwrap();
        let delivered = format!("UPDATE delivery SET state = 'delivered', settled_at = {NOON_MS}");
        db.execute_unprepared(&delivered).await.unwrap();
        let sent = "<td>2026-11-23 12:00:00</td><td><bdi>room</bdi></td><td>Alert: Urgent, ";
        report(&site, &auditor, "PAT-1", &[sent.to_owned()]).await;
        let export = "/trail/patient/export?patient=PAT-1&format=";
        let lines = site.page(&auditor, &format!("{export}jsonl")).await;
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let beside: Vec<&Value> = lines.iter().filter(|line| line["seq"] == 0).collect();
        let what: Vec<&Value> = beside.iter().map(|line| &line["action"]).collect();
        let expected = [
            "shown.list",
            "shown.opinions",
            "shown.api",
            "shown.fhir",
            "shown.intake",
            "sent",
        ];
        assert_eq!(what, expected);
        let sent = beside[5];
        assert_eq!(sent["subject"], "room");
        assert_eq!(sent["at"], "2026-11-23T12:00:00.000Z");
        assert_eq!(sent["digest"], "");
        assert_eq!(sent["study_uid"], uid(1));
        let csv = site.page(&auditor, &format!("{export}csv")).await;
        assert_eq!(csv.lines().count(), lines.len() + 1, "{csv}");
        assert!(csv.contains(",firstread,system,,,sent,done,"), "{csv}");
        for other in ["patient=PAT-2", "patient=PAT-1&from=2026-11-24"] {
            let page = site
                .page(&auditor, &format!("/trail/patient?{other}"))
                .await;
            for word in ["None, as far as that is kept.", "Nothing.", "No entries."] {
                assert!(page.contains(word), "{other}: no {word} in {page}");
            }
            let export = format!("/trail/patient/export?format=jsonl&{other}");
            assert_eq!(site.page(&auditor, &export).await, "", "{other}");
        }
        // each look at the log itself
        let log = site
            .page(&auditor, &format!("/shown?study={study_uid}"))
            .await;
        for word in [">API<", ">FHIR<", ">Intake<", "ImagingStudy?subject"] {
            assert!(log.contains(word), "no {word} in {log}");
        }
    }
}

#[tokio::test]
async fn a_patient_is_told_of_messages_previews_and_the_sample() {
    for database in databases() {
        let site = crate::quality::drawing(&database, 1.0).await;
        let auditor = site.signed_in(Role::Auditor).await;
        let study = site.study(1, 10, 5.0).await;
        let root = site.signed_in_as("root", Role::Admin).await;
        let preview = "/destinations/ris/preview";
        let csrf = field(&site.page(&root, preview).await, "csrf");
        let uncover = async |path: &str, study_uid: &str| {
            let form = [("csrf", csrf.as_str()), ("study", study_uid)];
            let answer = root.post(site.url(path)).form(&form).send().await;
            answer.unwrap().status()
        };
        assert_eq!(uncover(preview, "1.2.3").await, StatusCode::NOT_FOUND);
        assert_eq!(uncover(preview, &uid(1)).await, StatusCode::OK);
        site.flag(&study, false).await;
        let alert = site.store.deliveries_of(&uid(1)).await.unwrap()[0].id;
        let alert = alert.to_string();
        let message = format!("/deliveries/{alert}/message");
        assert_eq!(uncover(&message, "").await, StatusCode::OK);
        let acting = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_800_000,
        };
        site.store.mark_read(&uid(1), acting).await.unwrap();
        let bert = site.signed_in_as("bert", Role::Reader).await;
        let page = site.page(&bert, "/audit").await;
        assert!(page.contains("PAT-1"), "{page}");

        let wanted = Wanted {
            patient_id: Some("PAT-1".into()),
            ..Wanted::default()
        };
        let found = site.store.trail_after(&wanted, 0).await.unwrap();
        let said: Vec<String> = found.iter().map(short).collect();
        let expected = [
            "root message.view done PAT-1",
            "root message.view done PAT-1",
            "bert sample.view done PAT-1",
        ];
        assert_eq!(said, expected);
        let of: Vec<Option<&str>> = found.iter().map(|e| e.subject.as_deref()).collect();
        assert_eq!(of, [Some("ris"), Some(alert.as_str()), None]);
        let all = all(&site).await;
        let absent = all.iter().find(|e| e.outcome == "failed").unwrap();
        assert_eq!(short(absent), "root message.view failed -");
        assert_eq!(absent.study_uid, None, "no such study");
        let words = ["Uncovered a message", "Saw the audit sample"].map(str::to_owned);
        report(&site, &auditor, "PAT-1", &words).await;
    }
}

#[tokio::test]
async fn only_pages_that_renew_themselves_are_kept_once_in_a_while() {
    let site = Site::start().await;
    let study = site.study(1, 10, 5.0).await;
    site.picture(&study.study_uid, "axial.png", b"picture");
    let anna = site.signed_in_as("anna", Role::Reader).await;
    // one that is not there does not hide the next, which is
    for plane in ["coronal", "axial", "sagittal", "axial"] {
        let path = format!("/studies/{0}/series/{0}.1/{plane}.png", uid(1));
        let answer = anna.get(site.url(&path)).send().await.unwrap();
        assert_eq!(answer.status().is_success(), plane == "axial");
    }
    for n in [0, 1, 1] {
        let path = format!("/studies/{}?fragment={n}", uid(1));
        site.page(&anna, &path).await;
    }
    let otto = site.signed_in_as("otto", Role::Auditor).await;
    for n in [1, 2] {
        let path = format!("/trail?patient=PAT-{n}&fragment=1");
        site.page(&otto, &path).await;
    }
    let found = all(&site).await;
    let looks = found.iter().filter(|e| e.action != "login");
    let said: Vec<String> = looks.map(short).collect();
    let expected = [
        "anna picture.view failed PAT-1",
        "anna picture.view done PAT-1",
        "anna study.view done PAT-1",
        "anna study.view done PAT-1",
        "otto trail.view done -",
        "otto trail.view done -",
    ];
    assert_eq!(said, expected);
    // written beside the answer: a person opened the study once
    let mut shown = Vec::new();
    for _ in 0..50 {
        let study_uid = uid(1);
        let entries = site
            .store
            .shown(Some(&study_uid), Some("anna"), NOON_MS + 1);
        shown = entries.await.unwrap();
        if !shown.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(shown.len(), 1);
}

#[tokio::test]
async fn what_asks_by_itself_is_not_shown_either_while_it_cannot_be_kept() {
    let site = Site::start().await;
    let study = site.study(1, 10, 5.0).await;
    site.picture(&study.study_uid, "axial.png", b"picture");
    let reader = site.signed_in(Role::Reader).await;
    let paths = [
        "/worklist?fragment=1".to_owned(),
        format!("/studies/{0}/series/{0}.1/axial.png", uid(1)),
    ];
    // one after the other, and many at once
    let ask = async |path: &str| {
        let one = async || {
            let answer = reader.get(site.url(path)).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        };
        let mut all = vec![one().await, one().await];
        all.extend(futures_util::future::join_all((0..8).map(|_| one())).await);
        all
    };
    let db = Connection::connect(&site.database_url).await.unwrap();
    let away = "ALTER TABLE audit_trail RENAME TO gone";
    db.execute_unprepared(away).await.unwrap();
    for path in &paths {
        for (status, text) in ask(path).await {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(!text.contains("Family1") && text != "picture", "{text}");
        }
    }
    let back = "ALTER TABLE gone RENAME TO audit_trail";
    db.execute_unprepared(back).await.unwrap();
    for path in &paths {
        for (status, _) in ask(path).await {
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }
    let kept = all(&site).await;
    for action in ["list.view", "picture.view"] {
        let n = kept.iter().filter(|e| e.action == action).count();
        assert_eq!(n, 1, "{action}");
    }
}
