//! What is alerted, once, to whom, and until when.

use firstread::clock::Clock;
use firstread::store::ranks::Standing;
use firstread::triage::Band;
use firstread::worklist::Acting;
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::queue::{FakeCourier, outbox};
use crate::site::{CLAIM_IDLE_MS, Site, flag, uid};

async fn states(site: &Site, n: u32) -> Vec<(String, Option<Band>, String)> {
    let told = site.store.deliveries_of(&uid(n)).await.unwrap();
    told.into_iter()
        .map(|d| (d.destination, d.band, d.state))
        .collect()
}

fn waiting(to: &str, band: Band) -> (String, Option<Band>, String) {
    (to.to_owned(), Some(band), "waiting".to_owned())
}

#[tokio::test]
async fn one_alert_a_study_and_band_and_again_only_when_it_rises() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 12, 5.0).await;
        site.flag(&study, false).await;
        let urgent = [waiting("room", Band::Urgent)];
        assert_eq!(states(&site, 1).await, urgent);
        site.flag(&study, false).await;
        assert_eq!(states(&site, 1).await, urgent, "ranked again");
        let now_ms = site.clock.now_ms();
        let calm = |s: &mut Standing| {
            s.evidence.screening = None;
            s.evidence.findings.clear();
        };
        let changed = site
            .store
            .change_standing(study.id, &site.ranker, now_ms, calm);
        changed.await.unwrap();
        site.flag(&study, false).await;
        assert_eq!(states(&site, 1).await, urgent, "down and up again");
        site.flag(&study, true).await;
        assert_eq!(
            states(&site, 1).await,
            [
                waiting("room", Band::Urgent),
                waiting("room", Band::Critical)
            ]
        );
    }
}

#[tokio::test]
async fn priors_and_partial_volumes_raise_no_alert() {
    for database in databases() {
        let site = Site::on(&database).await;
        let prior = site
            .study_with(1, 12, 5.0, |row| row.reading = Set("prior".into()))
            .await;
        site.flag(&prior, true).await;
        assert_eq!(states(&site, 1).await, []);

        let study = site.study(2, 12, 5.0).await;
        let now_ms = site.clock.now_ms();
        let partial = |s: &mut Standing| {
            flag(&mut s.evidence, false);
            s.evidence.partial = true;
        };
        let changed = site
            .store
            .change_standing(study.id, &site.ranker, now_ms, partial);
        changed.await.unwrap();
        assert_eq!(states(&site, 2).await, []);
        let whole = |s: &mut Standing| s.evidence.partial = false;
        let changed = site
            .store
            .change_standing(study.id, &site.ranker, now_ms, whole);
        changed.await.unwrap();
        assert_eq!(
            states(&site, 2).await,
            [waiting("room", Band::Urgent)],
            "with all slices"
        );
    }
}

#[tokio::test]
async fn the_next_step_comes_only_while_nobody_acknowledged() {
    for database in databases() {
        let site = Site::on(&database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        let mut studies = Vec::new();
        for n in 1..=4 {
            let study = site.study(n, 12, 5.0).await;
            site.flag(&study, false).await;
            studies.push(study);
        }
        while outbox.deliver_next("room").await.unwrap() {}
        let sent = courier.to("room");
        assert_eq!(sent.len(), 4);
        assert_eq!(sent[0].alerts[0].study_uid, uid(1));

        // The first is acknowledged, the second read, the third nobody looks at, the fourth is claimed.
        let now_ms = site.clock.now_ms();
        let acknowledge = |by| site.store.acknowledge(sent[0].id, by, now_ms);
        assert_eq!(acknowledge("Dr Chen").await.unwrap(), 1);
        assert_eq!(
            acknowledge("someone else").await.unwrap(),
            0,
            "who was first stays"
        );
        site.set_reading(&studies[1], "read").await;
        let acting = Acting {
            reader: "chen",
            now_ms,
            held_since_ms: now_ms - CLAIM_IDLE_MS,
        };
        site.store.claim_study(&uid(4), acting).await.unwrap();
        let policy = &site.ranker.alerts;
        let escalate = || site.store.escalate(policy, site.clock.now_ms());
        site.clock.advance_ms(599_999);
        assert_eq!(escalate().await.unwrap(), 0);
        site.clock.advance_ms(1);
        assert_eq!(escalate().await.unwrap(), 1);
        assert_eq!(escalate().await.unwrap(), 0, "once");
        while outbox.deliver_next("pager").await.unwrap() {}
        let paged = courier.to("pager");
        assert_eq!(paged.len(), 1);
        assert_eq!(paged[0].alerts[0].study_uid, uid(3));
        let told = site.store.deliveries_of(&uid(1)).await.unwrap();
        assert_eq!(told[0].acknowledged_by.as_deref(), Some("Dr Chen"));
        let told = site.store.deliveries_of(&uid(4)).await.unwrap();
        let claimed = Some("chen (claimed the study)");
        assert_eq!(told[0].acknowledged_by.as_deref(), claimed);
    }
}

#[tokio::test]
async fn what_is_acknowledged_before_it_was_sent_is_not_sent() {
    for database in databases() {
        let site = Site::on(&database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        let studies = [site.study(1, 12, 5.0).await, site.study(2, 12, 5.0).await];
        for study in &studies {
            site.flag(study, false).await;
        }
        let first = site.store.open_deliveries(10).await.unwrap()[0].id;
        site.store
            .acknowledge(first, "x", site.clock.now_ms())
            .await
            .unwrap();
        while outbox.deliver_next("room").await.unwrap() {}
        assert_eq!(courier.to("room").len(), 1);
        assert_eq!(states(&site, 1).await[0].2, "skipped");
        assert_eq!(states(&site, 2).await[0].2, "delivered");
    }
}

/// Priority studies within ten minutes.
const STORM: u32 = 500;

#[tokio::test]
async fn a_storm_is_bundled_and_nothing_is_lost() {
    for database in databases() {
        let site = Site::on(&database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        for n in 1..=STORM {
            let study = site.study(n, 12, 5.0).await;
            site.flag(&study, false).await;
            site.clock.advance_ms(1_200);
            while outbox.deliver_next("room").await.unwrap() {}
        }
        for _ in 0..30 {
            site.clock.advance_ms(5_000);
            while outbox.deliver_next("room").await.unwrap() {}
        }
        let sent = courier.to("room");
        eprintln!("{STORM} alerts in 10 min became {} messages", sent.len());
        assert!(sent.len() <= 16, "{} messages", sent.len());
        let mut told: Vec<&str> = sent
            .iter()
            .flat_map(|b| b.alerts.iter().map(|a| a.study_uid.as_str()))
            .collect();
        assert_eq!(told.len(), STORM as usize, "each once");
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), STORM as usize);
        for n in 1..=STORM {
            assert_eq!(states(&site, n).await[0].2, "delivered");
        }
        // One link acknowledges all that its message said.
        let bundle = sent.iter().find(|b| b.alerts.len() > 1).unwrap();
        let done = site
            .store
            .acknowledge(bundle.id, "x", site.clock.now_ms())
            .await
            .unwrap();
        assert_eq!(done, bundle.alerts.len() as u64);
    }
}
