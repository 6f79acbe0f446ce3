//! What is found in a study while it is marked read alerts when it comes back to the list, once.

use firstread::store::jobs::SCREEN;
use firstread::triage::{Evidence, Whole};
use firstread::worklist::Acting;

use crate::common::databases;
use crate::site::{CLAIM_IDLE_MS, NOON_MS, Site, flag, uid};

const ACTING: Acting<'static> = Acting {
    reader: "anna",
    now_ms: NOON_MS,
    held_since_ms: NOON_MS - CLAIM_IDLE_MS,
};

/// Messages of alerts of a study.
async fn told(site: &Site, n: u32) -> usize {
    site.store.deliveries_of(&uid(n)).await.unwrap().len()
}

/// Does the screening of a study that is asked for, if there is one: it finds what it found before. Whether there was.
async fn screened(site: &Site) -> bool {
    let claimed = site.store.claim_job(SCREEN, "0a:screen", NOON_MS, 90_000);
    let Some(job) = claimed.await.unwrap() else {
        return false;
    };
    let ranked = site
        .store
        .change_standing(job.study_id, &site.ranker, NOON_MS, |_| {});
    ranked.await.unwrap();
    site.store.finish_job(&job, true).await.unwrap();
    true
}

#[tokio::test]
async fn what_rose_while_it_was_read_alerts_once_when_it_comes_back() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 12, 5.0).await;
        site.store.mark_read(&uid(1), ACTING).await.unwrap();
        site.flag(&study, false).await;
        site.flag(&study, false).await;
        let row = site.row(1).await;
        assert_eq!(
            (row.band.as_str(), row.highest_band.as_str()),
            ("urgent", "routine")
        );
        assert_eq!(told(&site, 1).await, 0, "it is read");

        site.store.reopen_study(&uid(1), ACTING).await.unwrap();
        assert!(screened(&site).await, "asked for with the undoing");
        assert_eq!(told(&site, 1).await, 1);
        assert_eq!(site.row(1).await.highest_band, "urgent");

        site.store.mark_read(&uid(1), ACTING).await.unwrap();
        site.store.reopen_study(&uid(1), ACTING).await.unwrap();
        assert!(!screened(&site).await, "it was alerted");
        site.flag(&study, false).await;
        assert_eq!(told(&site, 1).await, 1, "undone twice");
    }
}

#[tokio::test]
async fn what_did_not_rise_is_not_looked_at_again() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 12, 5.0).await;
        site.flag(&study, false).await;
        assert_eq!(told(&site, 1).await, 1, "while it is listed");
        site.store.mark_read(&uid(1), ACTING).await.unwrap();
        site.store.reopen_study(&uid(1), ACTING).await.unwrap();
        assert!(!screened(&site).await);
        // of slices that are missing nobody is told, here neither
        let partial = site.study(2, 12, 5.0).await;
        site.store.mark_read(&uid(2), ACTING).await.unwrap();
        let changed = site
            .store
            .change_standing(partial.id, &site.ranker, NOON_MS, |s| {
                flag(&mut s.evidence, false);
                s.evidence.partial = true;
            });
        changed.await.unwrap();
        site.store.reopen_study(&uid(2), ACTING).await.unwrap();
        assert!(!screened(&site).await);
        assert_eq!(told(&site, 2).await, 0);
    }
}

#[tokio::test]
async fn a_partial_series_silences_only_itself() {
    for database in databases() {
        let site = Site::on(&database).await;
        let study = site.study(1, 12, 5.0).await;
        let changed = site
            .store
            .change_standing(study.id, &site.ranker, NOON_MS, |s| {
                flag(&mut s.evidence, true);
                s.evidence.partial = true;
                // the other series alone are urgent, and not critical
                let mut whole = Evidence::default();
                flag(&mut whole, false);
                s.evidence.whole = Some(Box::new(Whole {
                    screening: whole.screening,
                    findings: whole.findings,
                    volumetry: None,
                }));
            });
        changed.await.unwrap();
        let row = site.row(1).await;
        assert_eq!(
            (row.band.as_str(), row.highest_band.as_str()),
            ("critical", "urgent")
        );
        assert_eq!(told(&site, 1).await, 1);
        site.flag(&study, true).await;
        assert_eq!(told(&site, 1).await, 1, "slices are still missing");
        let whole = site
            .store
            .change_standing(study.id, &site.ranker, NOON_MS, |s| {
                s.evidence.partial = false;
                s.evidence.whole = None;
            });
        whole.await.unwrap();
        assert_eq!(told(&site, 1).await, 2, "with all slices");
    }
}
