//! HL7 by TLS in both directions: python-hl7 over Python's ssl is the peer, the authority is made for the test.

use std::path::{Path, PathBuf};

use firstread::hl7::{Hl7Destination, Hl7Settings};
use firstread::tls::Toward;
use serde_json::json;

use crate::outbound;
use crate::papers::Papers;
use crate::peer::{Peer, Python, listening, message};
use crate::site::{Site, uid};

const ORDER: &str = "PID|1||PAT-1\rORC|NW||ACC-1\rTQ1|1||||||||S\rOBR|1||ACC-1|MRBR\r";

/// An order by Python: the code of its answer, or nothing where the connection was refused.
fn order(arguments: &[&str], id: &str) -> Option<String> {
    let mut python = Python::start(arguments)?;
    let said = python.try_ask(&json!({"text": message("ORM^O01", id, ORDER)}));
    Some(said.map_or_else(String::new, |said| said["code"].to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_speaks_tls_and_takes_only_clients_it_knows() {
    let papers = Papers::new();
    let (ca, other) = (papers.text("ca.pem"), papers.text("other.pem"));
    let (cert, key) = (papers.text("ca-client.pem"), papers.text("ca-client.key"));
    let (bad_cert, bad_key) = (
        papers.text("other-client.pem"),
        papers.text("other-client.key"),
    );
    let mut settings = Hl7Settings {
        tls_certificate_file: papers.path("ca-server.pem"),
        tls_key_file: papers.path("ca-server.key"),
        ..Hl7Settings::default()
    };
    for wants_clients in [false, true] {
        if wants_clients {
            settings.tls_client_ca_file = papers.path("ca.pem");
        }
        let site = Site::start().await;
        site.study(1, 10, 20.0).await;
        let (at, _stop) = listening(&site, settings.clone()).await;
        let port = at.port().to_string();
        let base = ["send", "127.0.0.1", &port];
        let with = |more: &[&str], id: &str| order(&[&base[..], more].concat(), id);
        let Some(known) = with(&[&ca, &cert, &key], "1") else {
            return;
        };
        assert_eq!(known, "\"AA\"");
        let study = site.store.study_detail(&uid(1), 0).await.unwrap().unwrap();
        assert_eq!(study.item.order_priority, "stat");
        let unnamed = if wants_clients { "" } else { "\"AA\"" };
        assert_eq!(with(&[&ca], "2").unwrap(), unnamed, "without a certificate");
        let stranger = with(&[&ca, &bad_cert, &bad_key], "3").unwrap();
        assert_eq!(stranger, unnamed, "with one that nobody here signed");
        assert_eq!(
            with(&[&other], "4").unwrap(),
            "",
            "whom the sender does not trust"
        );
        // in the clear nothing is taken, and nothing breaks
        let mut plain = Peer::connect(at).await;
        plain.write(b"\x0bMSH|^~\\&|\x1c\r").await;
        // after an alert of a few bytes
        let mut said = 0;
        while !plain.is_closed().await {
            said += 1;
            assert!(said < 100, "it talks on");
        }
        assert_eq!(with(&[&ca, &cert, &key], "5").unwrap(), "\"AA\"");
    }
}

fn to(papers: &Papers, ca: &str) -> Hl7Destination {
    Hl7Destination {
        by_tls: Toward {
            tls: true,
            tls_name: "localhost".into(),
            ca_file: papers.path(ca),
            ..Toward::default()
        },
        ..Hl7Destination::new("obx8", "")
    }
}

fn known_by(papers: &Papers, who: &str, mut destination: Hl7Destination) -> Hl7Destination {
    destination.by_tls.certificate_file = papers.path(&format!("{who}.pem"));
    destination.by_tls.key_file = papers.path(&format!("{who}.key"));
    destination
}

fn called(name: &str, mut destination: Hl7Destination) -> Hl7Destination {
    destination.by_tls.tls_name = name.into();
    destination
}

#[tokio::test(flavor = "multi_thread")]
async fn results_go_by_tls_to_whom_the_settings_trust() {
    let papers = Papers::new();
    let files = ["ca-server.pem", "ca-server.key", "ca.pem"].map(|f| papers.text(f));
    let all: Vec<&str> = std::iter::once("serve")
        .chain(files.iter().map(String::as_str))
        .collect();
    // one that asks for no certificate, and one that does
    for arguments in [&all[..3], &all[..]] {
        let Some(mut peer) = Python::start(arguments) else {
            return;
        };
        let asks = arguments.len() == 4;
        let port = peer.line()["port"].clone();
        let mut n = 0;
        for (destination, delivered, word) in [
            (
                known_by(&papers, "ca-client", to(&papers, "ca.pem")),
                true,
                "",
            ),
            (to(&papers, "ca.pem"), !asks, ""),
            (to(&papers, "other.pem"), false, "certificate"),
            (
                called("ris.example", to(&papers, "ca.pem")),
                false,
                "certificate",
            ),
            (Hl7Destination::new("obx8", ""), false, ""),
            (to(&papers, "missing.pem"), false, "missing.pem"),
        ] {
            n += 1;
            let destination = Hl7Destination {
                address: format!("127.0.0.1:{port}"),
                answer_timeout_seconds: 2,
                ..destination
            };
            let (state, said) = outbound::sent_to(destination).await;
            let expected = if delivered { "delivered" } else { "waiting" };
            assert_eq!(state, expected, "{n}: {said}");
            assert!(said.contains(word), "{n}: {said}");
            if delivered {
                let taken = peer.line();
                assert!(taken["invalid"].is_null(), "{taken}");
            }
        }
    }
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let papers = Papers::new();
    let check = |certificate: &str, key: &str, clients: &str, word: &str| {
        let path = |name: &str| match name {
            "" => PathBuf::new(),
            name => papers.path(name),
        };
        let settings = Hl7Settings {
            tls_certificate_file: path(certificate),
            tls_key_file: path(key),
            tls_client_ca_file: path(clients),
            ..Hl7Settings::default()
        };
        match settings.tls() {
            Ok(found) => assert_eq!((found.is_some(), word), (!certificate.is_empty(), "")),
            Err(error) => assert!(!word.is_empty() && error.contains(word), "{error}"),
        }
    };
    check("", "", "", "");
    check("ca-server.pem", "ca-server.key", "ca.pem", "");
    check("ca-server.pem", "", "", "both or neither");
    check("ca-server.pem", "ca-client.key", "", "tls_certificate_file");
    check("none.pem", "ca-server.key", "", "none.pem");
    check("ca-server.key", "ca-server.key", "", "ca-server.key");
    check("ca-server.pem", "ca-server.pem", "", "tls_key_file");
    check("", "", "ca.pem", "tls_certificate_file");
    check(
        "ca-server.pem",
        "ca-server.key",
        "ca.key",
        "tls_client_ca_file",
    );
    assert!(Path::new(&papers.text("ca.pem")).is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_to_the_next_sender() {
    let papers = Papers::new();
    let settings = Hl7Settings {
        tls_certificate_file: papers.path("ca-server.pem"),
        tls_key_file: papers.path("ca-server.key"),
        ..Hl7Settings::default()
    };
    let site = Site::start().await;
    let (at, _stop) = listening(&site, settings).await;
    let ca = papers.text("ca.pem");
    let subject = || {
        let ca = ca.clone();
        tokio::task::spawn_blocking(move || Papers::shown_by(at.port(), &["-CAfile", &ca]))
    };
    assert!(subject().await.unwrap().contains("CN = server"));
    papers.renew("ca-renewed", "ca-server");
    let began = std::time::Instant::now();
    while !subject().await.unwrap().contains("CN = renewed") {
        assert!(began.elapsed().as_secs() < 10, "never renewed");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
