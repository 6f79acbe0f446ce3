//! Ranking settings while the server runs: trying, applying, and the places of all studies.

use std::collections::BTreeMap;

use firstread::store::accounts::Role;
use firstread::store::jobs::SCREEN;
use firstread::store::ranks::{Ranker, Rules};
use firstread::store::settings::Applied;
use firstread::triage::{Evidence, Screening, TriageSettings, rank};
use firstread::worklist::Acting;
use futures_util::future::join_all;
use proptest::prelude::*;
use reqwest::{Client, StatusCode};
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::site::{NOON_MS, Site, field, uid};

fn with_k(k_minutes_per_logit: f64) -> TriageSettings {
    TriageSettings {
        k_minutes_per_logit,
        ..TriageSettings::default()
    }
}

fn evidence(p: f64) -> Evidence {
    let screening = Screening {
        p_calibrated: p,
        prevalence_train: 0.1,
    };
    Evidence {
        screening: Some(screening),
        ..Evidence::default()
    }
}

/// A study with evidence, standing where the settings in force put it.
async fn study(site: &Site, n: u32, minutes_ago: i64, p: f64) {
    let evidence = evidence(p);
    let ranking = rank(&evidence, &TriageSettings::default());
    let minutes = ranking.head_start_ms as f64 / 60_000.0;
    site.study_with(n, minutes_ago, minutes, |row| {
        row.evidence_json = Set(serde_json::to_string(&evidence).unwrap());
        row.band = Set(ranking.band.as_str().into());
    })
    .await;
}

fn acting(now_ms: i64) -> Acting<'static> {
    Acting {
        reader: "anna",
        now_ms,
        held_since_ms: now_ms - 1_800_000,
    }
}

async fn apply(site: &Site, settings: &TriageSettings, based_on: i64) -> Applied {
    let applied = site.store.apply_settings(
        settings,
        based_on,
        "admin",
        Some("test"),
        &site.ranker,
        NOON_MS,
    );
    applied.await.unwrap()
}

/// Where a study stands, by the settings of its version.
async fn stands_by(site: &Site, n: u32, settings: &TriageSettings, version: i64) {
    let row = site.row(n).await;
    let evidence: Evidence = serde_json::from_str(&row.evidence_json).unwrap();
    let expected = rank(&evidence, settings);
    assert_eq!(row.head_start_ms, expected.head_start_ms, "study {n}");
    assert_eq!(row.effective_arrival_ms, row.arrived_at - row.head_start_ms);
    assert_eq!(row.band, expected.band.as_str());
    assert_eq!(row.settings_version, version, "study {n}");
}

#[tokio::test]
async fn applying_moves_every_open_study_and_those_that_come_back() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=6 {
            study(&site, n, 60, 0.1 * f64::from(n)).await;
        }
        // two are read while settings change; one comes back by undo, one by new images
        for n in [5, 6] {
            let read = site.store.mark_read(&uid(n), acting(NOON_MS)).await;
            read.unwrap();
        }
        let changed = with_k(45.0);
        let applied = apply(&site, &changed, 1).await;
        let expected = Applied::Done {
            version: 2,
            rekeyed: 4,
        };
        assert_eq!(applied, expected);
        for n in 1..=4 {
            stands_by(&site, n, &changed, 2).await;
        }
        stands_by(&site, 5, &TriageSettings::default(), 1).await;
        let back = site.store.reopen_study(&uid(5), acting(NOON_MS)).await;
        back.unwrap();
        stands_by(&site, 5, &changed, 2).await;
        // above what it had reached while it was listed: a rank of its own is to alert
        let row = site.row(5).await;
        assert_eq!(
            (row.band.as_str(), row.highest_band.as_str()),
            ("urgent", "routine")
        );
        let asked = site
            .store
            .claim_job(SCREEN, "0a:screen", NOON_MS, 90_000)
            .await;
        assert_eq!(asked.unwrap().unwrap().study_id, row.id);

        let row = site.row(6).await;
        let series = site.series_with(&row, |_| {}).await;
        let image = site.image_of(&series, NOON_MS + 60_000).await;
        assert_eq!(image.received_at, NOON_MS + 60_000);
        let settled = site.store.settle_series(series.id, row.id, 60_000, NOON_MS);
        settled.await.unwrap();
        assert_eq!(site.row(6).await.reading, "open");
        stands_by(&site, 6, &changed, 2).await;

        // who applies what was tried on an older version is told; the same values are no new version
        assert_eq!(apply(&site, &with_k(10.0), 1).await, Applied::Outdated(2));
        assert_eq!(apply(&site, &changed, 2).await, Applied::Same);
        stands_by(&site, 1, &changed, 2).await;
    }
}

/// Whoever ranks while others apply: nobody keeps a place by settings that were replaced.
#[tokio::test]
async fn no_place_by_replaced_settings_survives() {
    for database in databases() {
        let site = Site::on(&database).await;
        for n in 1..=12 {
            study(&site, n, 60, 0.3).await;
        }
        // another process: it has its own idea of what is in force
        let elsewhere = Rules {
            settings: TriageSettings::default(),
            version: 1,
        };
        let elsewhere = Ranker::new(elsewhere, site.alerts.policy.clone());
        let changing = async {
            for version in 1..=6 {
                let k = 20.0 + f64::from(i32::try_from(version).unwrap());
                let applied = apply(&site, &with_k(k), version).await;
                assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
            }
        };
        let ranking = join_all((1..=12).map(|n| {
            let (site, elsewhere) = (&site, &elsewhere);
            async move {
                let id = site.row(n).await.id;
                for step in 1..=10 {
                    let p = 0.05 * f64::from(step);
                    let changed = site.store.change_standing(id, elsewhere, NOON_MS, |s| {
                        s.evidence = evidence(p);
                    });
                    changed.await.unwrap();
                    let (read, back) = (acting(NOON_MS), acting(NOON_MS));
                    if n % 3 == 0 {
                        site.store.mark_read(&uid(n), read).await.unwrap();
                        site.store.reopen_study(&uid(n), back).await.unwrap();
                    }
                }
            }
        }));
        futures_util::join!(changing, ranking);
        for n in 1..=12 {
            stands_by(&site, n, &with_k(26.0), 7).await;
        }
    }
}

#[tokio::test]
async fn what_was_applied_stays_until_the_file_says_something_new() {
    for database in databases() {
        let site = Site::on(&database).await;
        apply(&site, &with_k(20.0), 1).await;
        let start = async |file: TriageSettings| {
            let rules = site.store.settle_settings(&file, NOON_MS).await.unwrap();
            (rules.version, rules.settings.k_minutes_per_logit)
        };
        assert_eq!(start(with_k(30.0)).await, (2, 20.0));
        assert_eq!(start(with_k(40.0)).await, (3, 40.0));
        assert_eq!(start(with_k(40.0)).await, (3, 40.0));
    }
}

async fn send(site: &Site, client: &Client, pairs: &[(&str, &str)]) -> (StatusCode, String) {
    let answer = client.post(site.url("/settings")).form(pairs);
    let answer = answer.send().await.unwrap();
    let status = answer.status();
    let location = answer.headers().get("location").cloned();
    let text = answer.text().await.unwrap();
    let text = location.map_or(text, |l| l.to_str().unwrap().to_owned());
    (status, text)
}

#[tokio::test]
async fn an_administrator_tries_and_applies_on_the_page() {
    let site = Site::start().await;
    for n in 1..=30 {
        study(&site, n, 217 - i64::from(n) * 7, 0.03 * f64::from(n)).await;
    }
    let (admin, reader) = (
        site.signed_in(Role::Admin).await,
        site.signed_in(Role::Reader).await,
    );
    // trying changes nothing and tells all there is to tell
    let tried = "/settings?k_minutes_per_logit=0&readers=1&read_minutes=6";
    let page = site.page(&reader, tried).await;
    for said in [
        "of 30 open studies would change place",
        "Up most",
        "Down most",
        "The last 30 days, read again",
        "All studies",
        "Only an administrator can apply",
        firstread::RESEARCH_USE,
    ] {
        assert!(page.contains(said), "{said}");
    }
    stands_by(&site, 1, &TriageSettings::default(), 1).await;
    let wrong = site.page(&reader, "/settings?p_floor=0.9").await;
    assert!(wrong.contains("p_floor is 0.9, must be between"));
    assert!(!wrong.contains("would change place"));
    let same = site.page(&admin, "/settings?k_minutes_per_logit=30").await;
    assert!(same.contains("These are the values in force"));

    let page = site.page(&admin, tried).await;
    let csrf = field(&page, "csrf");
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in serde_json::to_value(TriageSettings::default())
        .unwrap()
        .as_object()
        .unwrap()
    {
        values.insert(name.clone(), value.to_string());
    }
    values.insert("k_minutes_per_logit".into(), "0".into());
    let form = |csrf: &str, based_on: &str, note: &str| {
        let mut pairs: Vec<(String, String)> = values.clone().into_iter().collect();
        for (name, value) in [("csrf", csrf), ("based_on", based_on), ("note", note)] {
            pairs.push((name.into(), value.into()));
        }
        pairs
    };
    let posted = async |client: &Client, pairs: Vec<(String, String)>| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        send(&site, client, &pairs).await
    };
    let (status, _) = posted(&admin, form("wrong", "1", "try")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, told) = posted(&admin, form(&csrf, "1", " ")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
    let (status, _) = send(&site, &admin, &[("csrf", &csrf), ("note", "x")]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = posted(&reader, form(&csrf, "1", "try")).await;
    assert_eq!(
        status,
        StatusCode::FORBIDDEN,
        "a reader's role does not apply"
    );
    stands_by(&site, 1, &TriageSettings::default(), 1).await;

    let mut told = site.news.listen();
    let (status, to) = posted(&admin, form(&csrf, "1", "fewer <jumps>")).await;
    assert_eq!(
        (status, &*to),
        (StatusCode::SEE_OTHER, "/settings?applied=2")
    );
    assert_eq!(told.recv().await, Ok(firstread::worklist::News::Everything));
    for n in 1..=30 {
        stands_by(&site, n, &with_k(0.0), 2).await;
    }
    let page = site.page(&admin, &to).await;
    for said in [
        "Version 2 is in force",
        "Head start per unit of log-odds: 30 to 0 min",
        "fewer &#60;jumps&#62;",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let (status, told) = posted(&admin, form(&csrf, "1", "again")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(told.contains("Version 2 was put in force meanwhile"));
}

/// The list's order: total, stable, and re-ranking one study moves only that one.
#[test]
fn re_ranking_one_study_moves_only_that_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let studies = prop::collection::vec((0i64..600, 0.001..0.999f64), 2..40);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
    let cases = (studies, 0usize..40, 0.001..0.999f64);
    let run = runner.run(&cases, |(studies, which, p)| {
        runtime.block_on(async {
            let site = Site::start().await;
            let mut n = 0;
            for (minutes_ago, p) in &studies {
                n += 1;
                study(&site, n, *minutes_ago, *p).await;
            }
            let before = order(&site).await;
            prop_assert_eq!(before.len(), studies.len());
            let again = order(&site).await;
            prop_assert_eq!(&before, &again, "stable");
            let moved = u32::try_from(which % studies.len()).unwrap() + 1;
            let id = site.row(moved).await.id;
            let changed = site.store.change_standing(id, &site.ranker, NOON_MS, |s| {
                s.evidence = evidence(p);
            });
            changed.await.unwrap();
            let after = order(&site).await;
            let without = |list: &[String]| {
                let others = list.iter().filter(|u| **u != uid(moved));
                others.cloned().collect::<Vec<_>>()
            };
            prop_assert_eq!(without(&before), without(&after));
            prop_assert!(after.contains(&uid(moved)));
            Ok(())
        })
    });
    run.unwrap();
}

/// UIDs of the list, with ranks 1 to n.
async fn order(site: &Site) -> Vec<String> {
    let query = firstread::worklist::WorklistQuery {
        page: 1,
        ..Default::default()
    };
    let page = site.store.worklist(&query, 0).await.unwrap();
    let ranks: Vec<u64> = page.items.iter().map(|i| i.rank).collect();
    assert_eq!(ranks, (1..=page.total).collect::<Vec<_>>());
    page.items.into_iter().map(|i| i.study_uid).collect()
}
