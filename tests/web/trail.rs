//! The audit trail: what is kept, that it stays one unbroken line, and that changing it shows.

use firstread::store::Store;
use firstread::store::accounts::Role;
use firstread::store::trail::{Deed, Entry, Verdict, Wanted};
use reqwest::StatusCode;
use sea_orm::{ActiveValue::Set, ConnectionTrait as _, Database as Connection};

use crate::common::databases;
use crate::site::{PASSWORD, Site, browser, field, uid};

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
            row.patient_id = Set(Some("=cmd()".into()))
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
        assert_eq!(lines.lines().count(), 2, "{lines}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_shown() {
    let site = Site::start().await;
    site.study(1, 10, 5.0).await;
    let reader = site.signed_in(Role::Reader).await;
    let db = Connection::connect(&site.database_url).await.unwrap();
    db.execute_unprepared("ALTER TABLE audit_trail RENAME TO gone")
        .await
        .unwrap();
    let answer = reader
        .get(site.url(&format!("/studies/{}", uid(1))))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.text().await.unwrap();
    assert!(
        !text.contains("Family1") && text.contains("audit trail"),
        "{text}"
    );
    db.execute_unprepared("ALTER TABLE gone RENAME TO audit_trail")
        .await
        .unwrap();
    let answer = reader
        .get(site.url(&format!("/studies/{}", uid(1))))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
