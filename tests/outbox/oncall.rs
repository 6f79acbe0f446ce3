//! Who is on call gets the alert: schedules, quiet hours, rules, and what happens when nobody is reached.

use std::collections::BTreeMap;
use std::sync::Mutex;

use firstread::alerts::{
    AlertSettings, ChannelKind, DestinationSettings, OverrideSettings, RotationSettings,
    RuleSettings, ScheduleSettings, StepSettings,
};
use firstread::clock::Clock;
use firstread::outbox::machine::Outcome;
use firstread::store::accounts::Role;
use firstread::triage::Band;

use crate::common::databases;
use crate::queue::{FakeCourier, outbox};
use crate::site::{NOON_MS, Site, uid};

fn step(after_minutes: u32, to: &[&str]) -> StepSettings {
    StepSettings {
        after_minutes,
        to: to.iter().map(|&t| t.to_owned()).collect(),
    }
}

fn settings() -> AlertSettings {
    let destination = |name: &str| {
        DestinationSettings::new(name, ChannelKind::Mail, &format!("{name}@hospital.example"))
    };
    let mut anna = destination("anna");
    anna.quiet_hours = "14:00-15:00".into();
    anna.quiet_instead = "anna-mail".into();
    AlertSettings {
        bands: vec![Band::Urgent, Band::Critical],
        base_url: "https://f.example".into(),
        destinations: vec![
            anna,
            destination("anna-mail"),
            destination("bert"),
            destination("carla"),
            destination("room"),
            destination("it"),
        ],
        steps: vec![step(0, &["neuro"]), step(10, &["room"])],
        rules: vec![RuleSettings {
            name: "shift".into(),
            bands: vec![Band::Urgent, Band::Critical],
            findings: vec!["x".into()],
            sites: vec!["North Clinic".into()],
            hours: String::new(),
            weekdays: String::new(),
            steps: vec![step(0, &["room", "neuro"])],
        }],
        // The site's tests begin on 23 November 2026, at noon UTC.
        schedules: vec![ScheduleSettings {
            name: "neuro".into(),
            rotations: vec![RotationSettings {
                people: vec!["anna".into(), "bert".into()],
                from: "2026-11-23".into(),
                handover: "08:00".into(),
                days: 1,
                hours: String::new(),
                weekdays: String::new(),
            }],
            overrides: vec![OverrideSettings {
                who: "carla".into(),
                from: "2026-11-23 18:00".into(),
                until: "2026-11-23 20:00".into(),
            }],
            otherwise: vec!["room".into()],
        }],
        alarm_to: vec!["it".into()],
        ..AlertSettings::default()
    }
}

/// Names of those who are to be told of a study.
async fn told(site: &Site, n: u32) -> Vec<String> {
    let told = site.store.deliveries_of(&uid(n)).await.unwrap();
    told.into_iter().map(|d| d.destination).collect()
}

#[tokio::test]
async fn an_alert_reaches_whoever_is_on_call_at_that_moment() {
    for database in databases() {
        let site = Site::telling(&database, &settings()).await;
        let check = async |n: u32, hours: i64, critical: bool, expected: &[&str]| {
            let ahead = NOON_MS + hours * 3_600_000 - site.clock.now_ms();
            site.clock.advance_ms(ahead);
            let study = site.study(n, 12, 5.0).await;
            site.flag(&study, critical).await;
            assert_eq!(told(&site, n).await, expected, "after {hours} h");
        };
        check(1, 0, false, &["anna"]).await;
        check(2, 2, false, &["anna-mail"]).await;
        check(3, 2, true, &["anna"]).await;
        check(4, 6, false, &["carla"]).await;
        check(5, 8, false, &["anna"]).await;
        check(6, 20, false, &["bert"]).await;
        // A rule for some studies; the next step goes by the same rule, which has none.
        let special = site
            .study_with(7, 12, 5.0, |row| {
                row.institution = sea_orm::ActiveValue::Set(Some("NORTH CLINIC".into()));
            })
            .await;
        site.flag(&special, false).await;
        assert_eq!(told(&site, 7).await, ["room", "bert"]);
        site.clock.advance_ms(600_000);
        let now_ms = site.clock.now_ms();
        site.store
            .escalate(&site.ranker.alerts, now_ms)
            .await
            .unwrap();
        assert_eq!(told(&site, 7).await, ["room", "bert"]);
        assert_eq!(told(&site, 6).await, ["bert", "room"]);
    }
}

#[tokio::test]
async fn quiet_hours_of_a_destination_of_the_page_change_its_channel_at_once() {
    for database in databases() {
        let mut settings = settings();
        settings.rules.clear();
        settings.steps = vec![step(0, &["page:night"])];
        let site = Site::telling(&database, &settings).await;
        let keep = async |filled: &[(&str, &str)]| {
            let filled: BTreeMap<String, String> = filled
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let noted = ("", "root");
            let kept = site.store.keep_made_destination(
                "page:night",
                "mail",
                Some(&filled),
                noted,
                NOON_MS,
            );
            kept.await.unwrap();
        };
        let check = async |n: u32, hours: i64, critical: bool, expected: &str| {
            let ahead = NOON_MS + hours * 3_600_000 - site.clock.now_ms();
            site.clock.advance_ms(ahead);
            let study = site.study(n, 12, 5.0).await;
            site.flag(&study, critical).await;
            assert_eq!(told(&site, n).await, [expected], "after {hours} h");
        };
        let to = ("to", "night@hospital.example");
        let hours = ("quiet_hours", "14:00-15:00");
        keep(&[to, hours, ("quiet_instead", "room")]).await;
        check(1, 0, false, "page:night").await;
        check(2, 2, false, "room").await;
        check(3, 2, true, "page:night").await;
        keep(&[to, hours, ("quiet_instead", "bert")]).await;
        check(4, 2, false, "bert").await;
        keep(&[to]).await;
        check(5, 2, false, "page:night").await;
    }
}

#[tokio::test]
async fn the_page_says_who_would_be_told_now() {
    let site = Site::telling(&crate::common::Database::Sqlite, &settings()).await;
    let reader = site.signed_in(Role::Reader).await;
    let page = async || {
        let page = site.page(&reader, "/alerts").await;
        page.replace("<td>", "|").replace("</td>", "")
    };
    let noon = page().await;
    for row in [
        "|urgent, critical; at North Clinic; with x|shift|at once|room, anna|room, anna",
        "|urgent, critical|all others|at once|anna|anna",
        "|||after 10 min|room|room",
        "|neuro|anna|carla from 18:00",
    ] {
        assert!(noon.contains(row), "{row} is not in {noon}");
    }
    site.clock.advance_ms(2 * 3_600_000);
    let quiet = page().await;
    assert!(
        quiet.contains("|all others|at once|anna-mail|anna"),
        "{quiet}"
    );
}

/// Answers by the destination's name, as it is told at the moment.
static ANSWERS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn fails(destination: &str) -> Outcome {
    let failing = ANSWERS.lock().unwrap();
    if failing.contains(&destination) {
        Outcome::Later("no answer".into())
    } else {
        Outcome::Delivered
    }
}

#[tokio::test]
async fn when_a_channel_fails_the_next_step_comes_at_once_and_the_last_one_is_an_alarm() {
    for database in databases() {
        *ANSWERS.lock().unwrap() = vec!["anna", "room", "it"];
        let site = Site::telling(&database, &settings()).await;
        let courier = FakeCourier::answering(|to| Some(fails(to)));
        let outbox = outbox(&site, courier.clone()).await;
        let alarm_to = site.alerts.alarm_to.clone();
        let minute = async || {
            for _ in 0..4 {
                site.clock.advance_ms(15_000);
                for d in &site.alerts.destinations {
                    while outbox.deliver_next(&d.name).await.unwrap() {}
                }
                let now_ms = site.clock.now_ms();
                site.store
                    .escalate(&site.ranker.alerts, now_ms)
                    .await
                    .unwrap();
                site.store.rescue(&alarm_to, now_ms).await.unwrap();
            }
            site.store
                .rescue(&alarm_to, site.clock.now_ms())
                .await
                .unwrap()
        };
        let study = site.study(1, 12, 5.0).await;
        site.flag(&study, true).await;
        minute().await;
        assert_eq!(minute().await, 1, "room was tried nine minutes early");
        assert_eq!(told(&site, 1).await, ["anna", "room", "it"]);
        let stands = site.store.deliveries_of(&uid(1)).await.unwrap();
        let kinds: Vec<&str> = stands.iter().map(|d| d.kind.as_str()).collect();
        assert_eq!(kinds, ["alert", "alert", "alarm"]);
        assert_eq!(minute().await, 1, "and one alarm is enough");
        assert_eq!(told(&site, 1).await.len(), 3);
        // One of them answers again: somebody knows.
        *ANSWERS.lock().unwrap() = vec!["anna", "it"];
        for _ in 0..5 {
            minute().await;
        }
        assert_eq!(minute().await, 0);
        let stands = site.store.deliveries_of(&uid(1)).await.unwrap();
        assert_eq!(stands[1].state, "delivered");
        *ANSWERS.lock().unwrap() = Vec::new();
        for _ in 0..10 {
            minute().await;
        }
        assert_eq!(courier.to("it").last().unwrap().kind, "alarm");
    }
}

#[tokio::test]
async fn what_nobody_can_be_told_is_counted_while_it_waits() {
    for database in databases() {
        let site = Site::telling(&database, &settings()).await;
        let courier = FakeCourier::content();
        let outbox = outbox(&site, courier).await;
        let now_ms = site.clock.now_ms();
        for name in ["anna", "room"] {
            site.store
                .pause_destination(name, Some("admin"), now_ms)
                .await
                .unwrap();
        }
        let study = site.study(1, 12, 5.0).await;
        site.flag(&study, true).await;
        let policy = &site.ranker.alerts;
        let unreached = async || {
            let now_ms = site.clock.now_ms();
            site.store.rescue(&[], now_ms).await.unwrap();
            site.store.escalate(policy, now_ms).await.unwrap();
            site.store.rescue(&[], now_ms).await.unwrap()
        };
        assert_eq!(unreached().await, 1, "both are paused");
        site.store
            .pause_destination("room", None, now_ms)
            .await
            .unwrap();
        assert_eq!(unreached().await, 0, "it waits its turn");
        assert!(outbox.deliver_next("room").await.unwrap());
        assert_eq!(unreached().await, 0);
    }
}

#[test]
fn schedules_and_rules_that_cannot_work_are_refused_by_name() {
    let check = |change: &dyn Fn(&mut AlertSettings), word: &str| {
        let mut made = settings();
        assert_eq!(made.check(), Ok(()));
        change(&mut made);
        let error = made.check().unwrap_err();
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    };
    check(&|s| s.schedules[0].otherwise.clear(), "otherwise");
    check(&|s| s.schedules[0].name = "anna".into(), "taken");
    check(
        &|s| s.schedules[0].rotations[0].people[0] = "dan".into(),
        "dan",
    );
    check(
        &|s| s.schedules[0].rotations[0].from = "23.11.".into(),
        "2026-11-02",
    );
    check(
        &|s| s.schedules[0].rotations[0].handover = "8".into(),
        "handover",
    );
    check(&|s| s.schedules[0].rotations[0].days = 0, "days");
    check(
        &|s| s.schedules[0].rotations[0].hours = "8-9".into(),
        "hours",
    );
    check(
        &|s| s.schedules[0].rotations[0].weekdays = "x".into(),
        "weekdays",
    );
    check(
        &|s| s.schedules[0].overrides[0].until = "2026-11-23 17:00".into(),
        "earlier first",
    );
    check(&|s| s.rules[0].steps[0].to[0] = "dan".into(), "dan");
    check(&|s| s.rules[0].bands.clear(), "bands and steps");
    check(&|s| s.rules[0].bands = vec![Band::Routine], "routine");
    check(&|s| s.rules.push(s.rules[0].clone()), "twice");
    check(&|s| s.alarm_to = vec!["neuro".into()], "alarm_to");
    check(
        &|s| s.destinations[0].quiet_instead = "anna".into(),
        "another",
    );
}
