//! The queue: order, repeats, storms, pauses, and one destination that delays no other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firstread::clock::{Clock, SharedClock, SystemClock, UnixMillis};
use firstread::outbox::machine::{Order, Outcome, RetryLimits};
use firstread::outbox::{Attempt, Courier, Outbox, OutboxSettings};
use firstread::store::outbox::{Batch, Claim};
use tokio_util::sync::CancellationToken;

use crate::common::databases;
use crate::site::Site;

/// Keeps what it was given; answers as it is told.
pub struct FakeCourier {
    pub sent: Mutex<Vec<(String, Batch)>>,
    answer: fn(&str) -> Option<Outcome>,
}

impl FakeCourier {
    /// `None` as an answer is to hang for ever.
    pub fn answering(answer: fn(&str) -> Option<Outcome>) -> Arc<Self> {
        Arc::new(Self {
            sent: Mutex::default(),
            answer,
        })
    }

    pub fn content() -> Arc<Self> {
        Self::answering(|_| Some(Outcome::Delivered))
    }

    pub fn to(&self, destination: &str) -> Vec<Batch> {
        let sent = self.sent.lock().unwrap();
        let to = sent.iter().filter(|(name, _)| name == destination);
        to.map(|(_, batch)| batch.clone()).collect()
    }
}

#[async_trait]
impl Courier for FakeCourier {
    async fn deliver(&self, destination: &str, batch: &Batch, _: UnixMillis) -> Attempt {
        let sent = (destination.to_owned(), batch.clone());
        self.sent.lock().unwrap().push(sent);
        match (self.answer)(destination) {
            Some(outcome) => outcome.into(),
            None => std::future::pending().await,
        }
    }
}

/// What a destination answered to the last delivery that failed, else to the last of all.
pub async fn answer(site: &Site) -> Option<String> {
    let open = site.store.open_deliveries(1).await.unwrap();
    let settled = site.store.settled_deliveries(1).await.unwrap();
    let id = open.first().or(settled.first()).unwrap().id;
    let seen = site.store.view_message(id, "test", true, 0).await.unwrap();
    seen.unwrap().1.and_then(|said| said.answer)
}

pub fn limits() -> RetryLimits {
    OutboxSettings::default().retry_limits()
}

pub async fn outbox(site: &Site, courier: Arc<dyn Courier>) -> Outbox {
    with_clock(site, courier, site.clock.clone()).await
}

pub async fn with_clock(site: &Site, courier: Arc<dyn Courier>, clock: SharedClock) -> Outbox {
    let all = site.alerts.destinations.iter();
    let destinations: Vec<String> = all.map(|d| d.name.clone()).collect();
    site.store.know_destinations(&destinations).await.unwrap();
    Outbox {
        store: site.store.clone(),
        clock,
        courier,
        destinations,
        coming: tokio::sync::watch::channel(Vec::new()).1,
        retry: limits(),
        storm: site.alerts.storm,
        attempt_timeout: Duration::from_secs(30),
        failing: Arc::default(),
    }
}

#[tokio::test]
async fn a_failing_destination_is_tried_again_in_order_until_it_takes_all() {
    for database in databases() {
        let site = Site::on(&database).await;
        let busy = FakeCourier::answering(|_| Some(Outcome::Later("busy".into())));
        let tried = outbox(&site, busy.clone()).await;
        for _ in 0..3 {
            assert!(
                site.store
                    .send_test("room", site.clock.now_ms())
                    .await
                    .unwrap()
            );
        }
        assert!(tried.deliver_next("room").await.unwrap());
        assert!(
            !tried.deliver_next("room").await.unwrap(),
            "the first waits, and the others for it"
        );
        let health = site.store.destinations().await.unwrap();
        let room = health.iter().find(|d| d.name == "room").unwrap();
        assert_eq!((room.waiting, room.failures), (3, 1));
        assert_eq!(room.last_error.as_deref(), Some("busy"));

        let content = FakeCourier::content();
        let later = outbox(&site, content.clone()).await;
        site.clock.advance_ms(2_000);
        while later.deliver_next("room").await.unwrap() {}
        let (first, then) = (busy.to("room"), content.to("room"));
        assert_eq!(
            first[0].dedup_key, then[0].dedup_key,
            "a repeat has the same key"
        );
        assert_eq!(
            then.iter().map(|b| b.attempts).collect::<Vec<_>>(),
            [2, 1, 1]
        );
        assert!(then.is_sorted_by_key(|b| b.id), "in order");
        site.clock.advance_ms(86_400_000);
        assert!(!later.deliver_next("room").await.unwrap(), "never again");
    }
}

#[tokio::test]
async fn what_a_killed_process_was_sending_is_repeated_under_its_key() {
    for database in databases() {
        let site = Site::on(&database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        site.store
            .send_test("room", site.clock.now_ms())
            .await
            .unwrap();
        let claim = async || {
            let now_ms = site.clock.now_ms();
            let storm = &site.alerts.storm;
            match site
                .store
                .claim_delivery("room", now_ms, &limits(), storm)
                .await
            {
                Ok(Claim::Batch(batch)) => Some(batch),
                Ok(_) => None,
                Err(e) => panic!("{e}"),
            }
        };
        let killed = claim().await.unwrap();
        assert_eq!(claim().await, None, "it is being sent");
        assert_eq!(
            site.store
                .release_deliveries(site.clock.now_ms())
                .await
                .unwrap(),
            1
        );
        assert!(outbox.deliver_next("room").await.unwrap());
        let repeated = courier.to("room").remove(0);
        assert_eq!(
            (&repeated.dedup_key, repeated.attempts),
            (&killed.dedup_key, 2)
        );
        // The answer to the first attempt comes late: it is not news any more.
        let late = Outcome::Later("late".into()).into();
        let now_ms = site.clock.now_ms();
        site.store
            .settle_delivery(&killed, &late, now_ms, &limits(), 0.0)
            .await
            .unwrap();
        assert_eq!(
            site.store
                .release_deliveries(site.clock.now_ms())
                .await
                .unwrap(),
            0
        );
        site.clock.advance_ms(86_400_000);
        assert_eq!(claim().await, None, "what is delivered is never sent again");
    }
}

#[tokio::test]
async fn what_is_refused_is_dead_until_someone_resends_or_skips_it() {
    for database in databases() {
        let site = Site::on(&database).await;
        let refusing = FakeCourier::answering(|_| Some(Outcome::Never("no such user".into())));
        let refused = outbox(&site, refusing.clone()).await;
        for _ in 0..2 {
            site.store
                .send_test("room", site.clock.now_ms())
                .await
                .unwrap();
        }
        while refused.deliver_next("room").await.unwrap() {}
        assert_eq!(refusing.to("room").len(), 2, "each once");
        let dead = site.store.open_deliveries(10).await.unwrap();
        let states: Vec<&str> = dead.iter().map(|d| d.state.as_str()).collect();
        assert_eq!(states, ["dead", "dead"]);
        assert_eq!(dead[0].said.as_deref(), Some("no such user"));
        assert_eq!(site.store.failing_destinations().await.unwrap(), ["room"]);

        let now_ms = site.clock.now_ms();
        let skip = Order::Skip("skipped by admin".into());
        assert!(
            site.store
                .steer_delivery(dead[0].id, &skip, now_ms)
                .await
                .unwrap()
        );
        assert!(
            site.store
                .steer_delivery(dead[1].id, &Order::Resend, now_ms)
                .await
                .unwrap()
        );
        let content = FakeCourier::content();
        let again = outbox(&site, content.clone()).await;
        while again.deliver_next("room").await.unwrap() {}
        assert_eq!(content.to("room").len(), 1);
        assert_eq!(
            content.to("room")[0].dedup_key,
            refusing.to("room")[1].dedup_key
        );
        assert!(
            !site
                .store
                .steer_delivery(dead[1].id, &Order::Resend, now_ms)
                .await
                .unwrap()
        );
        assert!(
            !site
                .store
                .steer_delivery(999, &Order::Resend, now_ms)
                .await
                .unwrap()
        );
        assert_eq!(
            site.store.failing_destinations().await.unwrap(),
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn a_paused_destination_gets_nothing_until_it_goes_on() {
    for database in databases() {
        let site = Site::on(&database).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier.clone()).await;
        let now_ms = site.clock.now_ms();
        let pause = async |by| {
            site.store
                .pause_destination("room", by, now_ms)
                .await
                .unwrap()
        };
        assert!(pause(Some("admin")).await);
        for destination in ["room", "pager"] {
            site.store.send_test(destination, now_ms).await.unwrap();
            while outbox.deliver_next(destination).await.unwrap() {}
        }
        assert_eq!(
            (courier.to("room").len(), courier.to("pager").len()),
            (0, 1)
        );
        assert!(pause(None).await);
        assert!(outbox.deliver_next("room").await.unwrap());
        assert_eq!(courier.to("room").len(), 1);
        assert!(!site.store.send_test("nobody", now_ms).await.unwrap());
        assert!(
            !site
                .store
                .pause_destination("nobody", None, now_ms)
                .await
                .unwrap()
        );
    }
}

#[tokio::test]
async fn a_destination_that_hangs_delays_no_other() {
    for database in databases() {
        let site = Site::on(&database).await;
        let hanging = FakeCourier::answering(|to| (to == "pager").then_some(Outcome::Delivered));
        let outbox = with_clock(&site, hanging.clone(), Arc::new(SystemClock)).await;
        let now_ms = SystemClock.now_ms();
        site.store.send_test("room", now_ms).await.unwrap();
        for _ in 0..20 {
            site.store.send_test("pager", now_ms).await.unwrap();
        }
        let stop = CancellationToken::new();
        let running = tokio::spawn(outbox.run(stop.clone()));
        let all = async {
            while hanging.to("pager").len() < 20 || hanging.to("room").is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), all)
            .await
            .unwrap();
        stop.cancel();
        // It stops although one attempt never ends.
        tokio::time::timeout(Duration::from_secs(10), running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let left = site.store.destinations().await.unwrap();
        let waiting: Vec<(&str, i64)> = left.iter().map(|d| (d.name.as_str(), d.waiting)).collect();
        assert_eq!(waiting, [("pager", 0), ("room", 1)]);
    }
}
