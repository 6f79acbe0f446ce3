//! Pages by SNPP to a real paging server: each level, what its refusals lead to, answers of the pager.

use std::sync::Arc;

use firstread::alerts::{
    AlertSettings, Announcer, ChannelKind, DestinationSettings, Secret, SmtpSettings, StepSettings,
};
use firstread::clock::Clock;
use firstread::outbox::Outbox;
use firstread::triage::Band;

use crate::common::{Database, databases};
use crate::mail::Peer;
use crate::queue::{answer, outbox};
use crate::site::{Site, uid};

const PAGER: &str = "5551234";

struct Paged {
    site: Site,
    outbox: Outbox,
    announcer: Arc<Announcer>,
}

/// A pager that is told at once, and another ten minutes later.
async fn paged(
    database: &Database,
    peer: &Peer,
    level: u8,
    change: impl Fn(&mut DestinationSettings),
) -> Paged {
    let destination = |name: &str| {
        let mut made = DestinationSettings::new(name, ChannelKind::Snpp, PAGER);
        made.server = format!("127.0.0.1:{}", peer.port);
        made.level = level;
        change(&mut made);
        made
    };
    let step = |after_minutes, to: &str| StepSettings {
        after_minutes,
        to: vec![to.into()],
    };
    let settings = AlertSettings {
        bands: vec![Band::Urgent, Band::Critical],
        base_url: "https://f.example".into(),
        destinations: vec![destination("anna"), destination("bert")],
        steps: vec![step(0, "anna"), step(10, "bert")],
        ..AlertSettings::default()
    };
    let site = Site::telling(database, &settings).await;
    let announcer = Announcer::new(site.alerts.clone(), &SmtpSettings::default()).unwrap();
    let announcer = Arc::new(announcer);
    let outbox = outbox(&site, announcer.clone()).await;
    Paged {
        site,
        outbox,
        announcer,
    }
}

impl Paged {
    async fn state(&self) -> (String, String) {
        let open = self.site.store.open_deliveries(1).await.unwrap();
        let settled = self.site.store.settled_deliveries(1).await.unwrap();
        let row = open.first().or(settled.first()).unwrap();
        (row.state.clone(), row.said.clone().unwrap_or_default())
    }

    async fn ask(&self) -> u64 {
        let now_ms = self.site.clock.now_ms();
        let asked = self.announcer.ask_pagers(&self.site.store, now_ms).await;
        asked.unwrap()
    }

    async fn acknowledged_by(&self) -> Option<String> {
        let told = self.site.store.deliveries_of(&uid(1)).await.unwrap();
        told[0].acknowledged_by.clone()
    }
}

fn commands(page: &serde_json::Value) -> Vec<String> {
    let all = page["commands"].as_array().unwrap();
    let verb = |c: &serde_json::Value| c.as_str().unwrap().split(' ').next().unwrap().to_owned();
    all.iter().map(verb).collect()
}

#[tokio::test]
async fn each_level_pages_with_what_it_knows() {
    let Some(peer) = Peer::start("snpp_server.py", &[]) else {
        return;
    };
    let levels: [&[&str]; 3] = [
        &["PAGE", "MESS", "SEND"],
        &["SUBJ", "ALER", "PAGE", "MESS", "SEND"],
        &[
            "2WAY", "ACKR", "RTYP", "SUBJ", "ALER", "PAGE", "MESS", "MCRE", "MCRE", "SEND",
        ],
    ];
    for (n, expected) in levels.iter().enumerate() {
        let level = u8::try_from(n + 1).unwrap();
        let paged = paged(&Database::Sqlite, &peer, level, |_| {}).await;
        let study = paged.site.study(1, 12, 5.0).await;
        paged.site.flag(&study, true).await;
        assert!(paged.outbox.deliver_next("anna").await.unwrap());
        assert_eq!(paged.state().await.0, "delivered");
        let page = peer.lines("pages.jsonl").pop().unwrap();
        assert_eq!(commands(&page), *expected, "level {level}");
        assert_eq!(page["to"], PAGER);
        let text = page["text"].as_str().unwrap();
        assert!(text.starts_with("North: Critical #1 "), "{text}");
        assert!(text.contains("https://f.example/a/") && text.contains(firstread::RESEARCH_USE));
        for patient in ["Family1", "PAT-1", "ACC-1"] {
            assert!(!text.contains(patient), "{text}");
        }
        assert_eq!(page["two_way"], level == 3);
    }
}

#[tokio::test]
async fn a_server_of_a_lower_level_is_paged_all_the_same() {
    let Some(peer) = Peer::start("snpp_server.py", &[]) else {
        return;
    };
    peer.set("level", "1");
    let paged = paged(&Database::Sqlite, &peer, 3, |_| {}).await;
    let study = paged.site.study(1, 12, 5.0).await;
    paged.site.flag(&study, true).await;
    assert!(paged.outbox.deliver_next("anna").await.unwrap());
    assert_eq!(paged.state().await.0, "delivered");
    assert_eq!(peer.lines("pages.jsonl").len(), 1);
    assert_eq!(paged.ask().await, 0, "there is no answer to ask for");
}

#[tokio::test]
async fn refusals_are_tried_again_or_given_up() {
    let Some(mut peer) = Peer::start("snpp_server.py", &[]) else {
        return;
    };
    peer.set("login", "needed");
    let test = async |paged: &Paged| {
        let now_ms = paged.site.clock.now_ms();
        assert!(paged.site.store.send_test("anna", now_ms).await.unwrap());
        while paged.outbox.deliver_next("anna").await.unwrap() {}
        paged.state().await
    };
    let log_in = |password: &'static str| {
        move |d: &mut DestinationSettings| {
            d.user = "firstread".into();
            d.secret = Secret(password.into());
        }
    };
    let wrong = paged(&Database::Sqlite, &peer, 1, log_in("wrong")).await;
    let (state, said) = test(&wrong).await;
    assert_eq!(state, "waiting", "a password can be put right: {said}");
    assert_eq!(said, "SNPP 550", "its words are kept apart");
    assert_eq!(
        answer(&wrong.site).await.as_deref(),
        Some("550 Invalid LoginID or Password")
    );
    let unknown = |d: &mut DestinationSettings| {
        log_in("correct")(d);
        d.to = "nobody".into();
    };
    let refused = paged(&Database::Sqlite, &peer, 1, unknown).await;
    assert_eq!(test(&refused).await, ("dead".into(), "SNPP 550".into()));
    assert_eq!(
        answer(&refused.site).await.as_deref(),
        Some("550 Error, Invalid Pager ID")
    );
    let good = paged(&Database::Sqlite, &peer, 2, log_in("correct")).await;
    peer.set("answer", "554 Error, failed");
    assert_eq!(test(&good).await.0, "waiting");
    peer.down();
    good.site.clock.advance_ms(2_000);
    while good.outbox.deliver_next("anna").await.unwrap() {}
    let (state, said) = good.state().await;
    assert_eq!(state, "waiting");
    assert!(said.contains("could not reach"), "{said}");
    peer.set("answer", "");
    peer.up();
    good.site.clock.advance_ms(4_000);
    while good.outbox.deliver_next("anna").await.unwrap() {}
    assert_eq!(good.state().await.0, "delivered");
    assert_eq!(peer.lines("pages.jsonl").len(), 1);
}

#[tokio::test]
async fn an_answer_of_the_pager_acknowledges_or_brings_the_next_step() {
    let Some(peer) = Peer::start("snpp_server.py", &[]) else {
        return;
    };
    for database in databases() {
        for (reply, expected) in [
            ("1", Some("anna's pager: 1")),
            ("On my way", Some("anna's pager: On my way")),
            ("2", None),
        ] {
            peer.set("reply", "");
            let paged = paged(&database, &peer, 3, |_| {}).await;
            let study = paged.site.study(1, 12, 5.0).await;
            paged.site.flag(&study, false).await;
            assert!(paged.outbox.deliver_next("anna").await.unwrap());
            assert_eq!(paged.ask().await, 0, "no answer yet");
            paged.site.clock.advance_ms(60_000);
            peer.set("reply", reply);
            assert_eq!(paged.ask().await, 1);
            assert_eq!(paged.ask().await, 0, "an answer counts once");
            assert_eq!(paged.acknowledged_by().await.as_deref(), expected);
            let policy = &paged.site.ranker.alerts;
            let now_ms = paged.site.clock.now_ms();
            let next = paged.site.store.escalate(policy, now_ms).await.unwrap();
            assert_eq!(next, u64::from(reply == "2"), "bert, nine minutes early");
            paged.site.clock.advance_ms(3_600_000);
            let now_ms = paged.site.clock.now_ms();
            let again = paged.site.store.escalate(policy, now_ms).await.unwrap();
            assert_eq!(again, 0);
        }
    }
}
