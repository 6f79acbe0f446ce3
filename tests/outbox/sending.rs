//! Our mails and a real mail server: what its answers lead to.

use std::sync::Arc;

use firstread::alerts::{Announcer, Secret, Security, SmtpSettings};
use firstread::clock::Clock;

use crate::common::databases;
use crate::mail::MailServer;
use crate::queue::{answer, outbox};
use crate::site::Site;

async fn announcing(site: &Site, settings: &SmtpSettings) -> firstread::outbox::Outbox {
    let announcer = Announcer::new(site.alerts.clone(), settings).unwrap();
    outbox(site, Arc::new(announcer)).await
}

async fn state_of_first(site: &Site) -> (String, String) {
    let open = site.store.open_deliveries(1).await.unwrap();
    let first = open.first();
    let settled = site.store.settled_deliveries(1).await.unwrap();
    let row = first.or(settled.first()).unwrap();
    (row.state.clone(), row.said.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_mail_and_a_page_say_what_they_should() {
    let Some(server) = MailServer::start() else {
        return;
    };
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let outbox = announcing(&site, &server.settings()).await;
    assert!(outbox.deliver_next("room").await.unwrap());
    site.clock.advance_ms(600_000);
    let now_ms = site.clock.now_ms();
    site.store
        .escalate(&site.ranker.alerts, now_ms)
        .await
        .unwrap();
    assert!(outbox.deliver_next("pager").await.unwrap());
    let messages = server.messages();
    let [mail, page] = messages.as_slice() else {
        panic!("{messages:?} {:?}", state_of_first(&site).await);
    };
    assert!(mail.tls && mail.to == "room@hospital.example");
    assert!(
        mail.header("Subject")
            .starts_with("firstread North: Urgent study waits: place 1")
    );
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("Date"), "Mon, 23 Nov 2026 12:00:00 +0000");
    assert!(mail.header("Message-ID").ends_with("@hospital.example>"));
    assert!(
        mail.header("Content-Type")
            .starts_with("multipart/alternative")
    );
    assert!(mail.text.contains("waiting 12 min"), "{}", mail.text);
    assert!(
        mail.text
            .contains("<a href=\"https://firstread.hospital.example/a/")
    );
    assert_eq!(page.header("Subject"), "");
    let line = page.text.split_once("\n\n").unwrap().1.trim_end();
    assert!(line.starts_with("North: Urgent #1 "), "{line}");
    assert!(
        line.contains("waiting 22 min") && !line.contains('\n'),
        "{line}"
    );
    assert!(line.len() <= 160, "{line}");
    for message in &messages {
        assert!(message.text.contains(firstread::RESEARCH_USE));
        for patient in ["Family1", "Given", "PAT-1", "ACC-1", "60 y"] {
            assert!(
                !message.text.contains(patient),
                "{patient} in {}",
                message.text
            );
        }
    }
}

#[tokio::test]
async fn an_answer_of_4yz_is_retried_and_5yz_is_not() {
    let Some(server) = MailServer::start() else {
        return;
    };
    for database in databases() {
        let before = (server.messages().len(), server.refused());
        let site = Site::on(&database).await;
        let outbox = announcing(&site, &server.settings()).await;
        let send = async || {
            while outbox.deliver_next("room").await.unwrap() {}
        };
        site.store
            .send_test("room", site.clock.now_ms())
            .await
            .unwrap();
        server.answer("451 4.3.0 later");
        send().await;
        let (state, said) = state_of_first(&site).await;
        assert_eq!(state, "waiting");
        assert_eq!(said, "SMTP 451 4.3.0", "its words are kept apart");
        assert_eq!(answer(&site).await.as_deref(), Some("4.3.0 later"));
        site.clock.advance_ms(2_000);
        server.answer("");
        send().await;
        assert_eq!(state_of_first(&site).await.0, "delivered");
        assert_eq!(answer(&site).await, None, "it took this one");
        site.store
            .send_test("room", site.clock.now_ms())
            .await
            .unwrap();
        server.answer("550 5.1.1 unknown");
        send().await;
        site.clock.advance_ms(86_400_000);
        send().await;
        let (state, said) = state_of_first(&site).await;
        assert_eq!(state, "dead");
        assert_eq!(said, "SMTP 550 5.1.1");
        assert_eq!(answer(&site).await.as_deref(), Some("5.1.1 unknown"));
        server.answer("");
        let after = (server.messages().len(), server.refused());
        assert_eq!(after, (before.0 + 1, before.1 + 2));
    }
}

#[tokio::test]
async fn what_an_administrator_can_put_right_is_kept() {
    let Some(server) = MailServer::start() else {
        return;
    };
    let good = server.settings();
    let wrong = [
        (
            "535",
            SmtpSettings {
                password: Secret("wrong".into()),
                ..good.clone()
            },
        ),
        (
            "ertificate",
            SmtpSettings {
                ca_file: std::path::PathBuf::new(),
                ..good.clone()
            },
        ),
        (
            "refused",
            SmtpSettings {
                port: 1,
                ..good.clone()
            },
        ),
    ];
    for (word, settings) in wrong {
        let site = Site::start().await;
        let bad = announcing(&site, &settings).await;
        assert!(
            site.store
                .send_test("room", site.clock.now_ms())
                .await
                .unwrap()
        );
        assert!(bad.deliver_next("room").await.unwrap());
        let (state, said) = state_of_first(&site).await;
        assert_eq!(state, "waiting", "{said}");
        assert!(said.contains(word), "{word} is not in {said:?}");
        let corrected = announcing(&site, &good).await;
        site.clock.advance_ms(2_000);
        assert!(corrected.deliver_next("room").await.unwrap());
        assert_eq!(state_of_first(&site).await.0, "delivered");
    }
    assert_eq!(server.messages().len(), 3);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = SmtpSettings {
        host: "mail.hospital.example".into(),
        from: "firstread@hospital.example".into(),
        ..SmtpSettings::default()
    };
    assert_eq!(good.check(true), Ok(()));
    let file = folder.path().join("absent");
    let check = |settings: SmtpSettings, key: &str| {
        let found = settings.check(true).and_then(|()| {
            let alerts = Arc::new(site_alerts(folder.path()));
            Announcer::new(alerts, &settings).map(|_| ())
        });
        let error = found.unwrap_err();
        assert!(error.contains(key), "{error:?} does not name {key}");
    };
    check(
        SmtpSettings {
            host: String::new(),
            ..good.clone()
        },
        "smtp.host",
    );
    check(
        SmtpSettings {
            from: "nobody".into(),
            ..good.clone()
        },
        "smtp.from",
    );
    check(
        SmtpSettings {
            security: firstread::alerts::Security::None,
            ..good.clone()
        },
        "smtp.security",
    );
    check(
        SmtpSettings {
            user: "u".into(),
            ..good.clone()
        },
        "smtp.user",
    );
    check(
        SmtpSettings {
            ca_file: file.clone(),
            ..good.clone()
        },
        "smtp.ca_file",
    );
    check(
        SmtpSettings {
            user: "u".into(),
            password_file: file.clone(),
            ..good.clone()
        },
        "smtp.password_file",
    );
    check(
        SmtpSettings {
            user: "u".into(),
            password: Secret("p".into()),
            password_file: file,
            ..good.clone()
        },
        "smtp.password",
    );
    assert!(!format!("{:?}", Secret("hush".into())).contains("hush"));
}

fn site_alerts(data: &std::path::Path) -> firstread::alerts::Alerts {
    let settings = firstread::alerts::AlertSettings::default();
    let policy = settings.policy(chrono_tz::UTC, 0);
    firstread::alerts::Alerts::new(&settings, policy, "", data).unwrap()
}

#[tokio::test]
async fn tls_from_the_first_byte_is_spoken_to_whom_the_settings_trust() {
    let Some(server) = MailServer::start_tls() else {
        return;
    };
    let settings = SmtpSettings {
        security: Security::Tls,
        ..server.settings()
    };
    let untrusted = SmtpSettings {
        ca_file: std::path::PathBuf::new(),
        ..settings.clone()
    };
    let site = Site::on(&crate::common::Database::Sqlite).await;
    for (settings, taken) in [(untrusted, 0), (settings.clone(), 1), (settings, 3)] {
        let outbox = announcing(&site, &settings).await;
        let before = server.messages().len();
        for _ in before..taken.max(1) {
            let now_ms = site.clock.now_ms();
            assert!(site.store.send_test("room", now_ms).await.unwrap());
        }
        site.clock.advance_ms(10_000);
        while outbox.deliver_next("room").await.unwrap() {}
        let health = site.store.destinations().await.unwrap();
        let room = health.iter().find(|d| d.name == "room").unwrap();
        let error = room.last_error.clone().unwrap_or_default();
        assert!(taken > 0 || error.contains("ertificate"), "{error}");
        assert!(server.messages().len() >= taken, "{error}");
        assert_eq!(room.failures == 0, taken > 0, "{error}");
    }
}
