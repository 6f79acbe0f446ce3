//! Bad nights: a peer that is away for an hour, a process that is killed again and again, a hundred alerts at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firstread::alerts::{
    AlertSettings, Announcer, ChannelKind, DestinationSettings, SmtpSettings, StepSettings,
};
use firstread::clock::{Clock, SystemClock};
use firstread::store::Store;
use firstread::triage::Band;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::common::{TestServer, databases};
use crate::mail::{MailServer, Peer};
use crate::queue::{outbox, with_clock};
use crate::site::{Site, uid};

fn hook(name: &str, peer: &Peer) -> DestinationSettings {
    let to = format!("http://127.0.0.1:{}/{name}", peer.port);
    DestinationSettings::new(name, ChannelKind::Webhook, &to)
}

fn telling(destinations: Vec<DestinationSettings>) -> AlertSettings {
    let to = destinations.iter().map(|d| d.name.clone()).collect();
    AlertSettings {
        bands: vec![Band::Urgent, Band::Critical],
        base_url: "https://f.example".into(),
        steps: vec![StepSettings {
            after_minutes: 0,
            to,
        }],
        destinations,
        ..AlertSettings::default()
    }
}

fn key(request: &Value) -> String {
    request["headers"]["idempotency-key"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// UIDs of the studies that requests named, in the order of the requests.
fn named(requests: &[Value]) -> Vec<String> {
    let body = |r: &Value| serde_json::from_str::<Value>(r["body"].as_str().unwrap()).unwrap();
    let link = |b: Value| b["cases"][0]["link"].as_str().unwrap().to_owned();
    let uid = |link: String| link.rsplit('/').next().unwrap().to_owned();
    requests.iter().map(|r| uid(link(body(r)))).collect()
}

#[tokio::test]
async fn a_peer_that_is_away_for_an_hour_delays_no_other_and_misses_nothing() {
    let (Some(up), Some(mut away)) = (
        Peer::start("http_server.py", &[]),
        Peer::start("http_server.py", &[]),
    ) else {
        return;
    };
    for database in databases() {
        let before = (
            up.lines("requests.jsonl").len(),
            away.lines("requests.jsonl").len(),
        );
        let mut settings = telling(vec![hook("up", &up), hook("away", &away)]);
        settings.storm_messages = 1000;
        let site = Site::telling(&database, &settings).await;
        let announcer = Announcer::new(site.alerts.clone(), &SmtpSettings::default()).unwrap();
        let outbox = outbox(&site, Arc::new(announcer)).await;
        away.down();
        let mut expected = Vec::new();
        // One alert in three minutes, for an hour of simulated time.
        for tick in 0..120_u32 {
            site.clock.advance_ms(30_000);
            if tick % 6 == 0 {
                let study = site.study(tick + 1, 12, 5.0).await;
                site.flag(&study, false).await;
                expected.push(uid(tick + 1));
            }
            for name in ["up", "away"] {
                while outbox.deliver_next(name).await.unwrap() {}
            }
            let told = up.lines("requests.jsonl").len() - before.0;
            assert_eq!(told, expected.len(), "at once");
        }
        assert_eq!(away.lines("requests.jsonl").len(), before.1);
        assert_eq!(site.store.failing_destinations().await.unwrap(), ["away"]);
        away.up();
        // The longest wait of the back-off.
        site.clock.advance_ms(300_000);
        while outbox.deliver_next("away").await.unwrap() {}
        let (got, late) = (up.lines("requests.jsonl"), away.lines("requests.jsonl"));
        assert_eq!(named(&got[before.0..]), expected);
        assert_eq!(named(&late[before.1..]), expected, "each once, in order");
        let open = site.store.open_deliveries(100).await.unwrap();
        assert!(open.is_empty(), "nothing waits and nothing was given up");
    }
}

/// Deliveries of the night, to each of two.
const DELIVERIES: usize = 60;
/// How often the process is killed in it.
const KILLS: usize = 20;

/// Keys in the order in which an idempotent peer takes messages: a repeat counts for nothing.
fn taken_once(keys: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = HashSet::new();
    keys.filter(|key| known.insert(key.clone())).collect()
}

#[tokio::test]
async fn killed_at_20_random_moments_each_message_is_taken_exactly_once() {
    let (Some(peer), Some(mail)) = (Peer::start("http_server.py", &[]), MailServer::start()) else {
        return;
    };
    peer.set("delay_ms", "40");
    mail.works_ms(40);
    let to = format!("http://127.0.0.1:{}/", peer.port);
    let mut settings = mail.environment();
    settings.extend(
        [
            ("ALERTS__BASE_URL", "https://f.example".to_owned()),
            (
                "ALERTS__DESTINATIONS",
                format!(
                    "[{{name=\"hook\", channel=\"webhook\", to=\"{to}\"}}, \
                     {{name=\"room\", channel=\"mail\", to=\"room@hospital.example\"}}]"
                ),
            ),
        ]
        .map(|(key, value)| (format!("FIRSTREAD_{key}"), value)),
    );
    for database in databases() {
        let before = (peer.lines("requests.jsonl").len(), mail.messages().len());
        let came = || {
            let requests = peer.lines("requests.jsonl").split_off(before.0);
            let messages = mail.messages().split_off(before.1);
            let hooks: Vec<String> = requests.iter().map(key).collect();
            let mails: Vec<String> = messages.iter().map(|m| m.header("Message-ID")).collect();
            (hooks, mails)
        };
        let folder = tempfile::tempdir().unwrap();
        let url = database.fresh_url();
        let mut server = TestServer::start_in_with(folder.path(), &url, &settings);
        let own = Some(url.as_str()).filter(|url| !url.is_empty());
        let store = Store::open(own, &server.data).await.unwrap();
        for _ in 0..DELIVERIES {
            for name in ["hook", "room"] {
                assert!(store.send_test(name, SystemClock.now_ms()).await.unwrap());
            }
        }
        let mut seed = u64::from(std::process::id());
        for _ in 0..KILLS {
            // A small generator of its own: the moments differ in every run.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(20 + (seed >> 33) % 160)).await;
            server.kill_and_restart();
        }
        let left = store.open_deliveries(200).await.unwrap().len();
        let started = Instant::now();
        while !store.open_deliveries(1).await.unwrap().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (hooks, mails) = came();
        for (what, sent) in [("webhooks", &hooks), ("mails", &mails)] {
            let once = taken_once(sent.iter().cloned());
            assert_eq!(once.len(), DELIVERIES, "an idempotent peer took each once");
            let repeats = sent.len() - DELIVERIES;
            eprintln!(
                "{KILLS} kills, {left} deliveries were left after them: {repeats} {what} were repeated"
            );
            assert!(repeats <= KILLS, "only what was in flight is repeated");
        }
        let settled = store.settled_deliveries(200).await.unwrap();
        assert_eq!(settled.len(), 2 * DELIVERIES);
        assert!(settled.iter().all(|d| d.state == "delivered"));
        let attempts: i64 = settled.iter().map(|d| d.attempts).sum();
        assert!(usize::try_from(attempts).unwrap() >= hooks.len() + mails.len());
        // What is recorded as acknowledged is never sent again.
        server.kill_and_restart();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(came(), (hooks, mails));
    }
}

/// Alerts that wait at once.
const QUEUED: u32 = 100;

/// Milliseconds from the rank to the mail server's answer, of those that were told.
async fn latencies_ms(site: &Site) -> Vec<i64> {
    let ms = |text: &str| {
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_millis()
    };
    let mut found = Vec::new();
    for n in 1..=QUEUED {
        let told = site.store.deliveries_of(&uid(n)).await.unwrap();
        let first = &told[0];
        if first.state == "delivered" {
            found.push(ms(first.settled_at.as_deref().unwrap()) - ms(&first.created_at));
        }
    }
    found
}

#[tokio::test]
async fn with_100_queued_the_first_alert_is_with_the_mail_server_within_5_s() {
    let Some(server) = MailServer::start() else {
        return;
    };
    // With the guard against storms, and without it: one message for each.
    let guards = [AlertSettings::default().storm_messages, 1000];
    let each = databases()
        .into_iter()
        .flat_map(|d| guards.map(|guard| (d.clone(), guard)));
    for (database, guard) in each {
        let before = server.messages().len();
        let room = DestinationSettings::new("room", ChannelKind::Mail, "room@hospital.example");
        let mut settings = telling(vec![room]);
        settings.storm_messages = guard;
        let site = Site::telling(&database, &settings).await;
        let announcer = Announcer::new(site.alerts.clone(), &server.settings()).unwrap();
        let outbox = with_clock(&site, Arc::new(announcer), Arc::new(SystemClock)).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(outbox.run(stop.clone()));
        for n in 1..=QUEUED {
            let study = site.study(n, 12, 5.0).await;
            site.clock
                .advance_ms(SystemClock.now_ms() - site.clock.now_ms());
            site.flag(&study, false).await;
        }
        let started = Instant::now();
        // Asked seldom: asking costs the machine too.
        while !site.store.open_deliveries(1).await.unwrap().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut waits = latencies_ms(&site).await;
        assert_eq!(waits.len(), QUEUED as usize);
        waits.sort_unstable();
        let p95 = waits[waits.len() * 95 / 100];
        let messages = server.messages().len() - before;
        eprintln!(
            "{QUEUED} alerts in {messages} messages: median {} ms, p95 {p95} ms, longest {} ms",
            waits[waits.len() / 2],
            waits[waits.len() - 1]
        );
        assert!(p95 <= 5_000, "p95 {p95} ms");
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}
