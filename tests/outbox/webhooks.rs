//! Webhooks to a real receiver: presets, signatures, and one that fails, hangs and refuses.

use std::sync::Arc;
use std::time::Duration;

use firstread::alerts::{
    AlertSettings, Announcer, ChannelKind, DestinationSettings, Preset, Secret, SmtpSettings,
    StepSettings,
};
use firstread::clock::Clock;
use firstread::outbox::Outbox;
use firstread::triage::Band;
use firstread::worklist::Acting;
use serde_json::Value;

use crate::common::{Database, databases};
use crate::mail::Peer;
use crate::queue::{answer, outbox};
use crate::site::{CLAIM_IDLE_MS, Site, uid};

/// A site whose one destination, `hook`, is this.
async fn hooked(database: &Database, hook: DestinationSettings) -> (Site, Outbox) {
    let settings = AlertSettings {
        bands: vec![Band::Urgent, Band::Critical],
        base_url: "https://f.example".into(),
        destinations: vec![hook],
        steps: vec![StepSettings {
            after_minutes: 0,
            to: vec!["hook".into()],
        }],
        ..AlertSettings::default()
    };
    let site = Site::telling(database, &settings).await;
    let announcer = Announcer::new(site.alerts.clone(), &SmtpSettings::default()).unwrap();
    let outbox = outbox(&site, Arc::new(announcer)).await;
    (site, outbox)
}

fn hook(to: &str, preset: Preset, secret: &str) -> DestinationSettings {
    let mut made = DestinationSettings::new("hook", ChannelKind::Webhook, to);
    made.preset = preset;
    made.secret = Secret(secret.into());
    made
}

async fn state(site: &Site) -> (String, String) {
    let open = site.store.open_deliveries(1).await.unwrap();
    let settled = site.store.settled_deliveries(1).await.unwrap();
    let row = open.first().or(settled.first()).unwrap();
    (row.state.clone(), row.said.clone().unwrap_or_default())
}

fn body(request: &Value) -> Value {
    serde_json::from_str(request["body"].as_str().unwrap()).unwrap()
}

/// Raises an alert and sends it; gives what the receiver got.
async fn told(peer: &Peer, path: &str, preset: Preset, secret: &str, template: &str) -> Value {
    let mut hook = hook(
        &format!("http://127.0.0.1:{}{path}", peer.port),
        preset,
        secret,
    );
    hook.template = template.into();
    let (site, outbox) = hooked(&Database::Sqlite, hook).await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, true).await;
    assert!(outbox.deliver_next("hook").await.unwrap());
    assert_eq!(state(&site).await.0, "delivered");
    let request = peer.lines("requests.jsonl").pop().unwrap();
    let raw = request["body"].as_str().unwrap();
    for patient in ["Family1", "PAT-1", "ACC-1", "60 y"] {
        assert!(!raw.contains(patient), "{raw}");
    }
    request
}

#[tokio::test]
async fn each_preset_says_what_its_receiver_understands() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    let secret = "a secret of the site";
    peer.set("secret", secret);
    let plain = told(&peer, "/in?x=1", Preset::Json, secret, "").await;
    assert_eq!(
        (&plain["path"], &plain["signed"]),
        (&"/in?x=1".into(), &true.into())
    );
    let said = body(&plain);
    assert_eq!(said["event"], "alert");
    assert_eq!(said["site"], "North");
    assert_eq!(said["key"], plain["headers"]["idempotency-key"]);
    assert_eq!(said["cases"][0]["band"], "critical");
    assert_eq!(said["cases"][0]["waiting_minutes"], 12);
    assert_eq!(
        said["cases"][0]["link"],
        format!("https://f.example/studies/{}", uid(1))
    );
    assert!(
        said["acknowledge"]
            .as_str()
            .unwrap()
            .starts_with("https://f.example/a/")
    );
    assert_eq!(said["note"], firstread::RESEARCH_USE);

    let unsigned = told(&peer, "/in", Preset::Json, "", "").await;
    assert!(unsigned["signed"].is_null());

    let event = told(&peer, "/v2/enqueue", Preset::Pagerduty, "R0UT1NGKEY", "").await;
    let said = body(&event);
    assert_eq!(said["routing_key"], "R0UT1NGKEY");
    assert_eq!(said["event_action"], "trigger");
    assert_eq!(said["dedup_key"], event["headers"]["idempotency-key"]);
    assert_eq!(said["payload"]["severity"], "critical");
    assert!(
        said["payload"]["summary"]
            .as_str()
            .unwrap()
            .starts_with("firstread North: ")
    );
    assert_eq!(said["links"].as_array().unwrap().len(), 2);

    let published = told(&peer, "/push/mri", Preset::Ntfy, "tk_1", "").await;
    assert_eq!(published["path"], "/push/");
    assert_eq!(published["headers"]["authorization"], "Bearer tk_1");
    let said = body(&published);
    assert_eq!(
        (&said["topic"], &said["priority"]),
        (&"mri".into(), &5.into())
    );
    assert_eq!(said["actions"][0]["label"], "Acknowledge");
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains(firstread::RESEARCH_USE)
    );

    let template = r#"{"text": "{{headline}} {{text}}", "to": "{{link}}"}"#;
    let filled = told(&peer, "/", Preset::Template, secret, template).await;
    assert_eq!(filled["signed"], true);
    assert!(
        body(&filled)["text"]
            .as_str()
            .unwrap()
            .contains("Critical study waits")
    );
}

#[tokio::test]
async fn a_receiver_that_fails_hangs_and_recovers_gets_each_message_under_one_key() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        let before = peer.lines("requests.jsonl").len();
        let to = format!("http://127.0.0.1:{}/", peer.port);
        let (site, mut outbox) = hooked(&database, hook(&to, Preset::Json, "x")).await;
        outbox.attempt_timeout = Duration::from_secs(1);
        peer.set("answer", "500 drop hang 301 429 200");
        let now_ms = site.clock.now_ms();
        assert!(site.store.send_test("hook", now_ms).await.unwrap());
        let expected = ["HTTP 500", "", "did not answer", "HTTP 301", "HTTP 429"];
        for (n, word) in expected.iter().enumerate() {
            assert!(outbox.deliver_next("hook").await.unwrap());
            let (state, said) = state(&site).await;
            assert_eq!(state, "waiting", "{n}: {said}");
            assert!(said.contains(word), "{n}: {said:?} does not say {word:?}");
            site.clock.advance_ms(60_000);
        }
        assert!(outbox.deliver_next("hook").await.unwrap());
        assert_eq!(state(&site).await.0, "delivered");
        let requests = peer.lines("requests.jsonl").split_off(before);
        assert_eq!(requests.len(), 6);
        for request in &requests {
            let key = &request["headers"]["idempotency-key"];
            assert_eq!(key, &requests[0]["headers"]["idempotency-key"]);
        }
        // What is wrong with the message itself is not tried again.
        peer.set("answer", "400");
        let now_ms = site.clock.now_ms();
        assert!(site.store.send_test("hook", now_ms).await.unwrap());
        assert!(outbox.deliver_next("hook").await.unwrap());
        site.clock.advance_ms(86_400_000);
        assert!(!outbox.deliver_next("hook").await.unwrap());
        let refused = ("dead".to_owned(), "HTTP 400".to_owned());
        assert_eq!(state(&site).await, refused, "its words are kept apart");
        assert_eq!(
            answer(&site).await.as_deref(),
            Some("{\"status\": \"400\"}")
        );
        peer.set("answer", "");
    }
}

#[tokio::test]
async fn a_receiver_that_pages_by_itself_hears_when_a_reader_has_the_study() {
    let Some(peer) = Peer::start("http_server.py", &[]) else {
        return;
    };
    for database in databases() {
        for preset in [Preset::Pagerduty, Preset::Json] {
            let before = peer.lines("requests.jsonl").len();
            let to = format!("http://127.0.0.1:{}/", peer.port);
            let (site, outbox) = hooked(&database, hook(&to, preset, "R0UT1NGKEY")).await;
            let send = async || while outbox.deliver_next("hook").await.unwrap() {};
            let take_back = async || {
                let now_ms = site.clock.now_ms();
                let to = &site.alerts.told_of_answers();
                site.store.take_back(to, now_ms).await.unwrap()
            };
            let (read, claimed) = (site.study(1, 12, 5.0).await, site.study(2, 12, 5.0).await);
            for study in [&read, &claimed] {
                site.flag(study, false).await;
                send().await;
            }
            assert_eq!(take_back().await, 0, "nobody has them");
            site.set_reading(&read, "read").await;
            let now_ms = site.clock.now_ms();
            let acting = Acting {
                reader: "chen",
                now_ms,
                held_since_ms: now_ms - CLAIM_IDLE_MS,
            };
            site.store.claim_study(&uid(2), acting).await.unwrap();
            assert_eq!(take_back().await, 2);
            assert_eq!(take_back().await, 0, "once each");
            send().await;
            let got = peer.lines("requests.jsonl").split_off(before);
            assert_eq!(got.len(), 4);
            for n in 0..2 {
                let (first, then) = (body(&got[n]), body(&got[n + 2]));
                if preset == Preset::Pagerduty {
                    assert_eq!(then["event_action"], "resolve");
                    assert_eq!(then["dedup_key"], first["dedup_key"]);
                } else {
                    assert_eq!(then["event"], "resolved");
                    assert_eq!(then["resolves"], first["key"]);
                }
            }
            // The claim runs out: a new message, not the old one again.
            site.clock.advance_ms(CLAIM_IDLE_MS);
            let policy = &site.ranker.alerts;
            let now_ms = site.clock.now_ms();
            assert_eq!(site.store.escalate(policy, now_ms).await.unwrap(), 1);
            send().await;
            let got = peer.lines("requests.jsonl").split_off(before);
            assert_eq!(got.len(), 5);
            assert!(got[..4].iter().all(|g| key(g) != key(&got[4])));
        }
    }
}

fn key(request: &Value) -> &str {
    request["headers"]["idempotency-key"].as_str().unwrap()
}

#[tokio::test]
async fn a_certificate_of_the_site_s_own_authority_is_trusted_when_named() {
    let Some(peer) = Peer::start("http_server.py", &["tls"]) else {
        return;
    };
    let to = format!("https://localhost:{}/", peer.port);
    let mut trusting = hook(&to, Preset::Json, "x");
    trusting.ca_file = peer.folder.path().join("ca.pem");
    for (settings, expected, word) in [
        (hook(&to, Preset::Json, "x"), "waiting", "ertificate"),
        (trusting, "delivered", ""),
    ] {
        let (site, outbox) = hooked(&Database::Sqlite, settings).await;
        let now_ms = site.clock.now_ms();
        assert!(site.store.send_test("hook", now_ms).await.unwrap());
        assert!(outbox.deliver_next("hook").await.unwrap());
        let (state, said) = state(&site).await;
        assert_eq!(state, expected, "{said}");
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(peer.lines("requests.jsonl").len(), 1);
    assert_eq!(body(&peer.lines("requests.jsonl")[0])["event"], "test");
}

#[test]
fn destinations_that_cannot_work_are_refused_by_name() {
    let check = |change: &dyn Fn(&mut DestinationSettings), word: &str| {
        let mut made = hook("https://hooks.example/x", Preset::Json, "");
        change(&mut made);
        let settings = AlertSettings {
            base_url: "https://f.example".into(),
            destinations: vec![made],
            ..AlertSettings::default()
        };
        let error = settings.check().unwrap_err();
        assert!(
            error.contains("\"hook\"") && error.contains(word),
            "{error:?} does not say {word}"
        );
    };
    check(&|d| d.to = "hooks.example".into(), "URL");
    check(&|d| d.to = "http://hooks.example/".into(), "https://");
    check(&|d| d.preset = Preset::Pagerduty, "routing key");
    check(&|d| d.template = "x".into(), "preset");
    check(&|d| d.quiet_hours = "22:00-06:00".into(), "quiet_instead");
    check(&|d| d.server = "x:444".into(), "server");
    check(
        &|d| {
            d.preset = Preset::Ntfy;
            d.to = "https://ntfy.example/".into();
        },
        "topic",
    );
    check(
        &|d| {
            d.preset = Preset::Template;
            d.template = "{{name}}".into();
        },
        "known are",
    );
    check(
        &|d| {
            d.channel = ChannelKind::Snpp;
            d.to = "5551234".into();
        },
        "server",
    );
    check(
        &|d| {
            d.channel = ChannelKind::Snpp;
            d.to = "555 1234\r\nSEND".into();
            d.server = "x:444".into();
        },
        "pager number",
    );
}
