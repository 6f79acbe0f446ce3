//! The page of studies that were read otherwise than screening said.

use firstread::store::accounts::Role;
use firstread::worklist::agreement::Answer;
use firstread::worklist::opinion::{Asked, Disagreements, Kind, ReadAs, Source};
use firstread::worklist::{Acting, Verdict};
use reqwest::{Client, StatusCode};
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::site::{NOON_MS, Site, field, uid};

fn acting(reader: &str) -> Acting<'_> {
    Acting {
        reader,
        now_ms: NOON_MS,
        held_since_ms: NOON_MS - 1_800_000,
    }
}

/// Study `n`, in this band, read.
async fn read(site: &Site, n: u32, band: &str) {
    let study = site.study_with(n, 10, 5.0, |row| {
        row.band = Set(band.into());
        row.highest_band = Set(band.into());
        row.evidence_json = Set("{}".into());
    });
    study.await;
    site.store.mark_read(&uid(n), acting("anna")).await.unwrap();
}

async fn listed(site: &Site, kind: Option<Kind>, source: Option<Source>) -> Disagreements {
    let asked = Asked {
        since_ms: NOON_MS - 1,
        kind,
        source,
        page: 1,
    };
    site.store.disagreements(&asked).await.unwrap()
}

async fn say(site: &Site, n: u32, outcome: ReadAs) {
    let study = uid(n);
    let kept = site.store.say_outcome(&study, outcome, acting("anna"));
    assert!(kept.await.unwrap());
}

async fn answer(site: &Site, n: u32) {
    let study = uid(n);
    let answered = site
        .store
        .answer_audit(&study, "bert", Answer::Something, None, NOON_MS);
    answered.await.unwrap();
}

fn uids(found: &Disagreements) -> Vec<String> {
    let mut uids: Vec<String> = found.rows.iter().map(|r| r.study_uid.clone()).collect();
    uids.sort();
    uids
}

#[tokio::test]
async fn what_reader_audit_and_findings_say_is_set_against_the_flag() {
    for database in databases() {
        let site = Site::on(&database).await;
        for (n, band) in [
            (1, "urgent"),
            (2, "urgent"),
            (3, "routine"),
            (4, "routine"),
            (5, "elevated"),
            (6, "critical"),
        ] {
            read(&site, n, band).await;
        }
        assert_eq!(listed(&site, None, None).await.rows, []);
        say(&site, 1, ReadAs::Unremarkable).await;
        say(&site, 2, ReadAs::Abnormal).await;
        say(&site, 3, ReadAs::Abnormal).await;
        say(&site, 4, ReadAs::Unremarkable).await;
        let word = async |n: u32, verdict| {
            let study = uid(n);
            let said = site
                .store
                .give_feedback(&study, "screening", verdict, None, acting("bert"));
            said.await.unwrap();
        };
        // The last word counts.
        word(5, Verdict::Agree).await;
        word(5, Verdict::Disagree).await;
        word(6, Verdict::Disagree).await;
        word(6, Verdict::Agree).await;
        let all = listed(&site, None, None).await;
        assert_eq!(uids(&all), [uid(1), uid(3), uid(5)]);
        assert_eq!((all.total, all.flagged, all.unflagged), (3, [4, 2], [2, 1]));
        let flagged = listed(&site, Some(Kind::FlaggedUnremarkable), None).await;
        assert_eq!(uids(&flagged), [uid(1), uid(5)]);
        let by_findings = listed(&site, None, Some(Source::Findings)).await;
        assert_eq!(uids(&by_findings), [uid(5)]);
        // What a reader says of the study goes before their views of findings; the last word counts.
        say(&site, 5, ReadAs::Abnormal).await;
        say(&site, 1, ReadAs::Abnormal).await;
        assert_eq!(uids(&listed(&site, None, None).await), [uid(3)]);
        // Back on the list, it is not read.
        site.store
            .reopen_study(&uid(3), acting("anna"))
            .await
            .unwrap();
        assert_eq!(listed(&site, None, None).await.total, 0);
    }
}

/// Whoever marked it read did not know yet; screening said it all the same.
#[tokio::test]
async fn what_was_flagged_after_it_was_read_counts_as_flagged() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 10, 5.0).await;
        site.store.mark_read(&uid(1), acting("anna")).await.unwrap();
        site.flag(&study, false).await;
        say(&site, 1, ReadAs::Unremarkable).await;
        let found = listed(&site, None, None).await;
        assert_eq!(found.rows[0].kind, Kind::FlaggedUnremarkable);
        assert_eq!(found.rows[0].band, "urgent");
    }
}

#[tokio::test]
async fn the_audit_sample_stays_blind() {
    for database in databases() {
        let site = Site::on(&database).await;
        read(&site, 1, "routine").await;
        say(&site, 1, ReadAs::Abnormal).await;
        assert_eq!(listed(&site, None, None).await.total, 1);
        site.store.draw_audit(1.0, NOON_MS).await.unwrap();
        assert_eq!(
            listed(&site, None, None).await.total,
            0,
            "it is asked about"
        );
        answer(&site, 1).await;
        let found = listed(&site, None, None).await;
        assert_eq!(found.rows[0].source, Source::Reader);
        read(&site, 2, "routine").await;
        site.store.draw_audit(1.0, NOON_MS).await.unwrap();
        answer(&site, 2).await;
        let found = listed(&site, None, Some(Source::Audit)).await;
        assert_eq!(uids(&found), [uid(2)]);
    }
}

#[tokio::test]
async fn readers_say_it_on_the_page_and_in_the_api() {
    let site = crate::quality::drawing(&databases()[0], 0.0).await;
    let anna = site.signed_in_as("anna", Role::Reader).await;
    read(&site, 1, "urgent").await;
    let path = format!("/studies/{}", uid(1));
    let form = site.page(&anna, &path).await;
    let csrf = field(&form, "csrf");
    let send = async |csrf: &str, said: &str| {
        let filled = [("csrf", csrf), ("said", said)];
        let sent = anna
            .post(site.url(&format!("{path}/outcome")))
            .form(&filled);
        sent.send().await.unwrap().status()
    };
    assert_eq!(send("wrong", "unremarkable").await, StatusCode::FORBIDDEN);
    assert_eq!(send(&csrf, "fine").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send(&csrf, "unremarkable").await, StatusCode::SEE_OTHER);
    let page = site.page(&anna, &path).await;
    assert!(page.contains("Read as unremarkable, says anna"));
    let list = site.page(&anna, "/second-opinion").await;
    assert!(list.contains("Family1, Given") && list.contains("1 of 1 flagged"));
    assert!(list.contains(firstread::RESEARCH_USE));
    let token = site.token_of("anna", Role::Reader).await;
    let answer = Client::new()
        .post(site.url(&format!("/api/v1{path}/outcome")))
        .bearer_auth(&token)
        .body("{\"outcome\": \"abnormal\"}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let said: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(said["read_as"]["outcome"], "abnormal");
    let list = site.page(&anna, "/second-opinion").await;
    assert!(!list.contains("Family1"), "they agree now");
    let odd = anna.get(site.url("/second-opinion?kind=odd")).send().await;
    assert_eq!(odd.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pages_hold_fifty() {
    let site = crate::quality::drawing(&databases()[0], 0.0).await;
    let anna = site.signed_in_as("anna", Role::Reader).await;
    for n in 1..=51 {
        read(&site, n, "urgent").await;
        say(&site, n, ReadAs::Unremarkable).await;
    }
    let first = site.page(&anna, "/second-opinion").await;
    assert!(first.contains("51 in all, page 1 of 2"));
    let second = site.page(&anna, "/second-opinion?months=3&page=2").await;
    assert!(second.contains("page 2 of 2") && second.contains(">Newer<"));
    assert_eq!(second.matches("<td>Unremarkable</td>").count(), 1);
}
