//! Agreement, the audit sample, and the log of what was shown.

use std::time::Duration;

use firstread::store::accounts::Role;
use firstread::store::audit::AuditOutcome;
use firstread::web::WebSettings;
use firstread::worklist::agreement::Answer;
use firstread::worklist::{Acting, Verdict, WorklistSettings};
use reqwest::StatusCode;
use sea_orm::ActiveValue::Set;

use crate::common::{Database, databases};
use crate::site::{NOON_MS, Site, field, uid};

fn acting(reader: &str, now_ms: i64) -> Acting<'_> {
    Acting {
        reader,
        now_ms,
        held_since_ms: now_ms - 1_800_000,
    }
}

/// A site that draws every study.
pub async fn drawing(database: &Database, audit_share: f64) -> Site {
    let settings = WebSettings {
        worklist: WorklistSettings {
            audit_share,
            ..WorklistSettings::default()
        },
        ..WebSettings::default()
    };
    Site::with(database, settings).await
}

#[tokio::test]
async fn the_sample_is_drawn_once_and_asked_of_another_reader() {
    for database in databases() {
        let site = drawing(&database, 1.0).await;
        let store = &site.store;
        for n in 1..=5 {
            site.study_with(n, 60, 5.0, |row| {
                row.band = Set(if n == 5 { "urgent" } else { "routine" }.into());
                if n == 4 {
                    row.state = Set("not_analysed".into());
                }
            })
            .await;
            let by = acting("anna", NOON_MS + i64::from(n));
            store.mark_read(&uid(n), by).await.unwrap();
        }
        // what was not screened is no study of the sample
        assert_eq!(store.draw_audit(1.0, NOON_MS).await.unwrap(), 4);
        assert_eq!(store.draw_audit(1.0, NOON_MS).await.unwrap(), 0);
        // who read it is not asked
        let (none, waiting) = store.next_audit("anna", 0).await.unwrap();
        assert_eq!((none, waiting), (None, 0));
        let (first, waiting) = store.next_audit("bert", 0).await.unwrap();
        assert_eq!((first.unwrap().study_uid, waiting), (uid(1), 4));
        let (second, _) = store.next_audit("bert", 1).await.unwrap();
        assert_eq!(second.unwrap().study_uid, uid(2));
        let answer = async |n: u32, who: &str, answer| {
            let study = uid(n);
            let answered = store.answer_audit(&study, who, answer, None, NOON_MS);
            answered.await.unwrap()
        };
        assert_eq!(
            answer(1, "anna", Answer::Nothing).await,
            AuditOutcome::NotAsked
        );
        assert_eq!(
            answer(1, "bert", Answer::Something).await,
            AuditOutcome::Kept
        );
        assert_eq!(
            answer(1, "carl", Answer::Nothing).await,
            AuditOutcome::NotAsked
        );
        assert_eq!(
            answer(4, "bert", Answer::Nothing).await,
            AuditOutcome::NotAsked
        );
        assert_eq!(
            answer(9, "bert", Answer::Nothing).await,
            AuditOutcome::NotAsked
        );
        // read again after undo: not drawn again, and not asked while it is open
        store
            .reopen_study(&uid(2), acting("anna", NOON_MS + 9))
            .await
            .unwrap();
        assert_eq!(store.next_audit("bert", 0).await.unwrap().1, 2);
        store
            .mark_read(&uid(2), acting("anna", NOON_MS + 10))
            .await
            .unwrap();
        assert_eq!(store.draw_audit(1.0, NOON_MS).await.unwrap(), 0);
        assert_eq!(store.next_audit("bert", 0).await.unwrap().1, 3);
        let sample = store.audited(0).await.unwrap();
        assert_eq!(sample.iter().filter(|s| s.flagged).count(), 1);
        assert_eq!(store.read_since(0).await.unwrap(), (3, 1));
    }
}

/// Many that were read at one moment do not stop the drawing.
#[tokio::test]
async fn the_sample_goes_on_past_a_crowd() {
    let site = drawing(&Database::Sqlite, 1.0).await;
    for n in 1..=620 {
        site.study_with(n, 60, 5.0, |row| {
            row.reading = Set("read".into());
            row.changed_at = Set(NOON_MS);
        })
        .await;
    }
    site.study_with(621, 60, 5.0, |row| {
        row.reading = Set("read".into());
        row.changed_at = Set(NOON_MS + 1);
    })
    .await;
    let drawn = site.store.draw_audit(1.0, NOON_MS).await.unwrap();
    assert!((501..=621).contains(&drawn), "{drawn}");
    let (_, waiting) = site.store.next_audit("bert", 0).await.unwrap();
    assert_eq!(waiting, drawn);
}

#[tokio::test]
async fn a_reader_answers_without_being_told_and_the_page_of_agreement_says_what_follows() {
    let site = drawing(&Database::Sqlite, 1.0).await;
    let bert = site.signed_in_as("bert", Role::Reader).await;
    for n in 1..=3 {
        let study = site.study(n, 60, 5.0).await;
        site.screening_with(&study, |_| {}).await;
        let uid = uid(n);
        let said = site.store.give_feedback(
            &uid,
            "screening",
            if n == 1 {
                Verdict::Disagree
            } else {
                Verdict::Agree
            },
            None,
            acting("anna", NOON_MS),
        );
        said.await.unwrap();
        site.store
            .mark_read(&uid, acting("anna", NOON_MS))
            .await
            .unwrap();
    }
    let page = site.page(&bert, "/audit").await;
    assert!(page.contains("3 studies wait") && page.contains("should have been flagged"));
    for hidden in [
        "Not flagged",
        "Head start",
        "p_abnormal",
        "Disagree",
        "_overlay",
        "min earlier",
    ] {
        assert!(!page.contains(hidden), "{hidden}: {page}");
    }
    let csrf = field(&page, "csrf");
    let send = async |path: String, pairs: &[(&str, &str)]| {
        let answer = bert.post(site.url(&path)).form(pairs).send().await.unwrap();
        answer.status()
    };
    let path = |n| format!("/audit/{}", uid(n));
    for (pairs, status) in [
        (
            [("csrf", "wrong"), ("answer", "nothing")],
            StatusCode::FORBIDDEN,
        ),
        (
            [("csrf", &*csrf), ("answer", "normal")],
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            [("csrf", &*csrf), ("answer", "something")],
            StatusCode::SEE_OTHER,
        ),
        (
            [("csrf", &*csrf), ("answer", "nothing")],
            StatusCode::CONFLICT,
        ),
    ] {
        assert_eq!(send(path(1), &pairs).await, status, "{pairs:?}");
    }
    send(path(2), &[("csrf", &csrf), ("answer", "nothing")]).await;
    let page = site.page(&bert, "/agreement").await;
    for said in [
        "Screening as a whole",
        "screening 0.0.1",
        // 2 of 3 agree; 1 of 2 answers found something; of 3 read that is 1.5
        "67 % (21 to 94)",
        "50 % (9 to 91)",
        "about 2 (0 to 3)",
        "2026-11: 2 of 3 agree",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
    let bad = bert
        .get(site.url("/agreement?months=2"))
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_was_shown_is_kept_with_place_band_and_settings() {
    for database in databases() {
        let site = Site::on(&database).await;
        let anna = site.signed_in_as("anna", Role::Reader).await;
        let auditor = site.signed_in_as("otto", Role::Auditor).await;
        for n in 1..=3 {
            site.study(n, 60, 5.0 * f64::from(n)).await;
        }
        site.page(&anna, "/worklist?q=family").await;
        // its script asks again at once: nothing new
        site.page(&anna, "/worklist?q=family&fragment=1").await;
        site.page(&anna, &format!("/studies/{}", uid(2))).await;
        site.page(&anna, &format!("/studies/{}?fragment=1", uid(2)))
            .await;
        let until = NOON_MS + 1;
        let of = async |study: Option<String>, who: Option<&str>| {
            let store = &site.store;
            for _ in 0..50 {
                let entries = store.shown(study.as_deref(), who, until).await.unwrap();
                if entries.len() >= 2 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let entries = store.shown(study.as_deref(), who, until).await.unwrap();
            let said = entries
                .into_iter()
                .map(|e| (e.who, e.what, e.settings_version));
            said.collect::<Vec<_>>()
        };
        let entry = |what: &str| ("anna".to_owned(), what.to_owned(), 1);
        let expected = [entry("study"), entry("list")];
        assert_eq!(of(Some(uid(2)), None).await, expected);
        assert_eq!(of(None, Some("anna")).await, expected);
        assert_eq!(of(Some(uid(1)), Some("anna")).await, [entry("list")]);
        assert!(of(Some("1.2.3".into()), None).await.is_empty());
        let page = site
            .page(&auditor, &format!("/shown?study={}", uid(2)))
            .await;
        for said in [
            "place 2, Not flagged, head start 10 min, probability 20 to 50 %",
            "place 2, Not flagged, head start 10 min; page 1 of 3 studies",
            "/worklist?q=family",
        ] {
            assert!(page.contains(said), "{said}\n{page}");
        }
        // a study of a receiver whose clock is ahead of that of whoever shows the list
        site.study_with(4, 60, 5.0, |s| s.arrived_at = Set(NOON_MS + 60_000))
            .await;
        site.page(&anna, "/worklist").await;
        assert_eq!(of(Some(uid(4)), None).await, [entry("list")]);
        assert_eq!(site.store.cut_shown(NOON_MS + 1).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_probability_is_a_range_until_one_asks_for_the_number() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    site.study(1, 60, 5.0).await;
    let list = site.page(&reader, "/worklist").await;
    assert!(!list.contains("0.42"));
    let page = site.page(&reader, &format!("/studies/{}", uid(1))).await;
    assert!(page.contains("<dt>Probability abnormal</dt><dd>20 to 50 %</dd>"));
    let numbers = page.split("Numbers behind it").nth(1).unwrap();
    assert!(numbers.contains("0.420"));
    assert_eq!(page.matches("0.420").count(), 1);
}

#[tokio::test]
async fn a_simulation_is_run_on_the_page() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let page = site.page(&reader, "/simulate").await;
    assert!(!page.contains("First come</th>"), "nothing runs unasked");
    let page = site
        .page(
            &reader,
            "/simulate?readers=1&load=0.8&preemptive=1&k_minutes=20",
        )
        .await;
    for said in [
        "First come",
        "Head start (this server)",
        "1.00x",
        "class=\"waitplot\"",
        "--readers 1 --load 0.8",
        "--k-minutes 20",
        "--preemptive",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let wrong = site.page(&reader, "/simulate?load=%3Cscript%3E").await;
    assert!(wrong.contains("must be a number from 0.05 to 0.98") && !wrong.contains("<script>\""));
}
