//! A reader's claim answers an alert, for as long as it holds and no longer.

use std::sync::Arc;

use firstread::clock::Clock;
use firstread::outbox::Outbox;
use firstread::worklist::Acting;

use crate::common::databases;
use crate::queue::{FakeCourier, outbox};
use crate::site::{CLAIM_IDLE_MS, Site, uid};

const MINUTE_MS: i64 = 60_000;

struct Night {
    site: Site,
    courier: Arc<FakeCourier>,
    outbox: Outbox,
}

impl Night {
    async fn on(database: &crate::common::Database) -> Self {
        let site = Site::on(database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        Self {
            site,
            courier,
            outbox,
        }
    }

    fn acting<'a>(&self, reader: &'a str) -> Acting<'a> {
        let now_ms = self.site.clock.now_ms();
        Acting {
            reader,
            now_ms,
            held_since_ms: now_ms - CLAIM_IDLE_MS,
        }
    }

    /// Lets minutes pass, and everything happen that is due in them.
    async fn minutes(&self, minutes: i64) {
        for _ in 0..minutes {
            self.site.clock.advance_ms(MINUTE_MS);
            self.now().await;
        }
    }

    async fn now(&self) {
        let policy = &self.site.ranker.alerts;
        let now_ms = self.site.clock.now_ms();
        self.site.store.escalate(policy, now_ms).await.unwrap();
        for destination in ["room", "pager"] {
            while self.outbox.deliver_next(destination).await.unwrap() {}
        }
    }

    /// How many messages reached room and pager.
    fn told(&self) -> (usize, usize) {
        (
            self.courier.to("room").len(),
            self.courier.to("pager").len(),
        )
    }
}

#[tokio::test]
async fn a_claim_that_runs_out_unread_alerts_again_from_the_first_step() {
    for database in databases() {
        let night = Night::on(&database).await;
        let study = night.site.study(1, 12, 5.0).await;
        night.site.flag(&study, false).await;
        night.now().await;
        night.minutes(4).await;
        assert_eq!(night.told(), (1, 0));
        let claimed = night
            .site
            .store
            .claim_study(&uid(1), night.acting("chen"))
            .await;
        claimed.unwrap();
        // At work for 20 minutes, then gone.
        night.minutes(20).await;
        let renewed = night
            .site
            .store
            .opened_study(&uid(1), night.acting("chen"))
            .await;
        renewed.unwrap();
        night.minutes(29).await;
        assert_eq!(night.told(), (1, 0), "the claim holds");
        night.minutes(1).await;
        assert_eq!(night.told(), (2, 0), "it ran out");
        night.minutes(10).await;
        assert_eq!(night.told(), (2, 1), "and nobody acknowledged");
        let told = night.site.store.deliveries_of(&uid(1)).await.unwrap();
        assert_eq!(told.len(), 3);
        // Someone says that he looks; later readings change nothing.
        let first = night.courier.to("room")[0].id;
        let now_ms = night.site.clock.now_ms();
        let done = night.site.store.acknowledge(first, "Dr Wu", now_ms).await;
        assert_eq!(done.unwrap(), 1);
        night.minutes(60).await;
        assert_eq!(night.told(), (2, 1));
    }
}

#[tokio::test]
async fn a_study_that_is_read_in_time_alerts_nobody_again() {
    for database in databases() {
        let night = Night::on(&database).await;
        let study = night.site.study(1, 12, 5.0).await;
        night.site.flag(&study, false).await;
        let store = &night.site.store;
        store
            .claim_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(25).await;
        store
            .mark_read(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(90).await;
        assert_eq!(night.told(), (0, 0));
        let told = store.deliveries_of(&uid(1)).await.unwrap();
        assert_eq!(told[0].state, "skipped");
        // Taken back, and held as it was; then released: someone has to look after all.
        store
            .reopen_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(10).await;
        assert_eq!(night.told(), (0, 0));
        store
            .release_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(4).await;
        assert_eq!(night.told(), (0, 0), "another reader is often at it");
        night.minutes(1).await;
        assert_eq!(night.told(), (1, 0));
    }
}

#[tokio::test]
async fn while_a_reader_holds_a_study_its_rise_tells_nobody() {
    for database in databases() {
        let night = Night::on(&database).await;
        let study = night.site.study(1, 12, 5.0).await;
        let store = &night.site.store;
        store
            .claim_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(10).await;
        night.site.flag(&study, true).await;
        night.minutes(19).await;
        assert_eq!(night.told(), (0, 0), "chen has it");
        night.minutes(1).await;
        assert_eq!(night.told(), (1, 0), "chen had it");
        assert_eq!(
            night.courier.to("room")[0].alerts[0].band.as_str(),
            "critical"
        );
        // A study that is read while held never alerts.
        let other = night.site.study(2, 12, 5.0).await;
        store
            .claim_study(&uid(2), night.acting("chen"))
            .await
            .unwrap();
        night.site.flag(&other, true).await;
        store
            .mark_read(&uid(2), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(90).await;
        assert!(store.deliveries_of(&uid(2)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_acknowledgement_outlives_a_release_and_not_a_claim_that_ran_out() {
    for database in databases() {
        let night = Night::on(&database).await;
        let study = night.site.study(1, 12, 5.0).await;
        night.site.flag(&study, false).await;
        night.now().await;
        let store = &night.site.store;
        let message = night.courier.to("room")[0].id;
        let now_ms = night.site.clock.now_ms();
        store.acknowledge(message, "Dr Wu", now_ms).await.unwrap();
        store
            .claim_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        store
            .release_study(&uid(1), night.acting("chen"))
            .await
            .unwrap();
        night.minutes(60).await;
        assert_eq!(night.told(), (1, 0), "Dr Wu looks at it");
        store
            .claim_study(&uid(1), night.acting("wu"))
            .await
            .unwrap();
        night.minutes(30).await;
        assert_eq!(night.told(), (2, 0), "or did not");
    }
}

#[tokio::test]
async fn opening_puts_the_next_step_off_by_five_minutes() {
    for database in databases() {
        let night = Night::on(&database).await;
        let study = night.site.study(1, 12, 5.0).await;
        night.site.flag(&study, false).await;
        night.minutes(8).await;
        let opened = night
            .site
            .store
            .opened_study(&uid(1), night.acting("chen"))
            .await;
        opened.unwrap();
        night.minutes(4).await;
        assert_eq!(night.told(), (1, 0));
        night.minutes(1).await;
        assert_eq!(night.told(), (1, 1));
    }
}
