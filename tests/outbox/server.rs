//! The whole way: a study goes in by DICOM, a mail comes out by SMTP.

use std::time::{Duration, Instant};

use crate::common::{Database, TestServer, databases, dicom_files, modified, sample, study_uid};
use crate::mail::MailServer;
use crate::packaging;

/// Every screened study is urgent: what the network thinks of the sample is not the question here.
fn settings(mail: &MailServer) -> Vec<(String, String)> {
    let mut all = mail.environment();
    let set = [
        ("TRIAGE__ELEVATED_FROM_MINUTES", "0.0"),
        ("TRIAGE__URGENT_FROM_MINUTES", "0.0"),
        ("SITE__NAME", "North"),
        ("ALERTS__BANDS", "[\"urgent\", \"critical\"]"),
        ("ALERTS__BASE_URL", "https://firstread.hospital.example"),
        (
            "ALERTS__DESTINATIONS",
            "[{name=\"room\", channel=\"mail\", to=\"room@hospital.example\"}]",
        ),
        ("ALERTS__STEPS", "[{after_minutes=0, to=[\"room\"]}]"),
    ];
    all.extend(set.map(|(key, value)| (format!("FIRSTREAD_{key}"), value.to_owned())));
    all
}

fn start(database: &Database, mail: &MailServer) -> TestServer {
    TestServer::start_with(database, &settings(mail))
}

/// A sample as a study of someone whose every identifier is known.
fn study(folder: &std::path::Path) -> (String, Vec<std::path::PathBuf>) {
    let files = modified(
        &dicom_files(&sample("one")),
        folder,
        &[
            "(0010,0010)=Testperson^Agatha",
            "(0010,0020)=PID-4711",
            "(0010,0030)=19420131",
            "(0008,0050)=ACC-4711",
        ],
    );
    (study_uid(&files[0]), files)
}

async fn delivery(server: &TestServer, uid: &str) -> serde_json::Value {
    server.get(&format!("/api/v1/studies/{uid}")).await["deliveries"][0].clone()
}

async fn wait_for_state(server: &TestServer, uid: &str, state: &str) -> serde_json::Value {
    let started = Instant::now();
    loop {
        let found = delivery(server, uid).await;
        if found["state"] == state {
            return found;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "never {state}: {found}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_urgent_study_is_alerted_within_5_s_and_acknowledged_by_post_alone() {
    let Some(mail) = MailServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path());
    for (run, database) in databases().iter().enumerate() {
        let server = start(database, &mail);
        assert!(server.send(&files).0);
        server.wait_until_ranked(&uid).await;
        let ranked = Instant::now();
        let message = mail.wait_for(run + 1).await.remove(run);
        eprintln!(
            "mail at most {:?} after the rank was seen",
            ranked.elapsed()
        );
        assert!(ranked.elapsed() < Duration::from_secs(5));
        for patient in ["Testperson", "Agatha", "4711", "1942"] {
            assert!(
                !message.raw.contains(patient),
                "{patient} in {}",
                message.raw
            );
        }
        assert!(message.text.contains(firstread::RESEARCH_USE));
        let told = wait_for_state(&server, &uid, "delivered").await;
        assert_eq!(
            (&told["band"], &told["attempts"]),
            (&"urgent".into(), &1.into())
        );
        assert!(told["acknowledged_at"].is_null());

        // A mail scanner follows the link; a person presses the button behind it.
        let link = format!("http://{}{}", server.http, message.acknowledge_path());
        let client = reqwest::Client::new();
        let page = client.get(&link).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let page = page.text().await.unwrap();
        assert!(page.contains("Acknowledge") && page.contains(firstread::RESEARCH_USE));
        assert!(!page.contains("Testperson") && !page.contains("4711"));
        assert!(delivery(&server, &uid).await["acknowledged_at"].is_null());
        let pressed = client
            .post(&link)
            .form(&[("name", "Dr Chen")])
            .send()
            .await
            .unwrap();
        assert_eq!(pressed.status(), 200);
        let told = delivery(&server, &uid).await;
        assert_eq!(told["acknowledged_by"], "Dr Chen (link to room)");
        let forged = format!("{link}x");
        assert_eq!(
            client
                .post(&forged)
                .form(&[("name", "")])
                .send()
                .await
                .unwrap()
                .status(),
            404
        );
        let metrics = client.get(format!("http://{}/metrics", server.http));
        let metrics = metrics.send().await.unwrap().text().await.unwrap();
        assert!(
            metrics.contains("firstread_deliveries{state=\"delivered\"} 1"),
            "{metrics}"
        );
        packaging::is_told_by(&metrics);
    }
    let keys: std::collections::HashSet<String> = mail
        .messages()
        .iter()
        .map(|m| m.header("Message-ID"))
        .collect();
    assert_eq!(
        keys.len(),
        databases().len(),
        "each server's messages have keys of their own"
    );
}

#[tokio::test]
async fn a_password_of_digits_alone_signs_in_as_it_was_written() {
    let Some(mail) = MailServer::start() else {
        return;
    };
    // so long that no time and no UID in the log looks like it
    let password = "004711081512";
    mail.wants(password);
    let mut settings = settings(&mail);
    settings.retain(|(key, _)| key != "FIRSTREAD_SMTP__PASSWORD_FILE");
    settings.push(("FIRSTREAD_SMTP__PASSWORD".into(), password.into()));
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path());
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    assert!(server.send(&files).0);
    wait_for_state(&server, &uid, "delivered").await;
    assert_eq!(mail.messages().len(), 1);
    assert!(!server.log().contains(password));
}

#[tokio::test]
async fn a_mail_server_that_was_down_gets_the_alert_once() {
    let Some(mut mail) = MailServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path());
    for (run, database) in databases().iter().enumerate() {
        mail.down();
        let server = start(database, &mail);
        assert!(server.send(&files).0);
        server.wait_until_ranked(&uid).await;
        let started = Instant::now();
        while delivery(&server, &uid).await["attempts"].as_i64() < Some(2) {
            assert!(started.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        mail.up();
        wait_for_state(&server, &uid, "delivered").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(mail.messages().len(), run + 1);
    }
}

#[tokio::test]
async fn kill_9_while_sending_repeats_the_same_message_and_no_other() {
    let Some(mail) = MailServer::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (uid, files) = study(folder.path());
    for (run, database) in databases().iter().enumerate() {
        mail.answer("hang");
        let mut server = start(database, &mail);
        assert!(server.send(&files).0);
        let first = mail.wait_for(2 * run + 1).await.remove(2 * run);
        // The mail server has it, we do not know: the worst moment.
        mail.answer("");
        server.kill_and_restart();
        let second = mail.wait_for(2 * run + 2).await.remove(2 * run + 1);
        assert_ne!(first.header("Message-ID"), "");
        assert_eq!(first.header("Message-ID"), second.header("Message-ID"));
        wait_for_state(&server, &uid, "delivered").await;
        server.kill_and_restart();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(
            mail.messages().len(),
            2 * run + 2,
            "what is delivered is never sent again"
        );
    }
}
