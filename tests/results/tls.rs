//! Objects sent by TLS: dcmtk's storescp and pynetdicom are the peers, with and without client certificates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firstread::dicom::objects::Kind;
use firstread::dicom::send::{DestinationSettings, SendError, StoreOutcome, commit, echo, store};
use firstread::made::{self, Made};
use firstread::tls::Toward;
use serde_json::json;

use crate::pacs::{Peer, destination, free_port};
use crate::papers::Papers;
use crate::sending::object;

/// dcmtk's storescp by TLS; asks for a client certificate that `ca.pem` signed.
struct Storescp {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Storescp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Storescp {
    fn start(papers: &Papers) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let child = Command::new("/usr/bin/storescp")
            .args(["-aet", "PACS", "-od"])
            .arg(folder.path())
            .arg("+tls")
            .args([papers.path("ca-server.key"), papers.path("ca-server.pem")])
            .arg("+cf")
            .arg(papers.path("ca.pem"))
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Peer::wait(port);
        Self {
            child,
            port,
            folder,
        }
    }
}

fn by_tls(papers: &Papers, to: DestinationSettings, ca: &str, who: &str) -> DestinationSettings {
    let own = |end: &str| match who {
        "" => PathBuf::new(),
        who => papers.path(&format!("{who}.{end}")),
    };
    let to = DestinationSettings {
        by_tls: Toward {
            tls: true,
            tls_name: "localhost".into(),
            ca_file: papers.path(ca),
            certificate_file: own("pem"),
            key_file: own("key"),
        },
        ..to
    };
    to.check().unwrap();
    to
}

fn otherwise(to: &DestinationSettings, change: impl FnOnce(&mut Toward)) -> DestinationSettings {
    let mut to = to.clone();
    change(&mut to.by_tls);
    to
}

#[tokio::test]
async fn one_made_on_the_page_is_reached_by_tls() {
    let papers = Papers::rsa();
    let peer = Storescp::start(&papers);
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(made::FOLDER);
    std::fs::create_dir(&folder).unwrap();
    for file in ["ca.pem", "ca-client.pem", "ca-client.key"] {
        std::fs::copy(papers.path(file), folder.join(file)).unwrap();
    }
    let port = peer.port.to_string();
    let mut filled: BTreeMap<String, String> = [
        ("ae_title", "PACS"),
        ("host", "localhost"),
        ("port", &port),
        ("pdf", "yes"),
        ("tls", "yes"),
        ("ca_file", "ca.pem"),
        ("certificate_file", "ca-client.pem"),
        ("key_file", "ca-client.key"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let read =
        |filled: &BTreeMap<String, String>| made::read("dicom", "page:pacs", filled, data.path());
    let Ok(Made::Dicom(to)) = read(&filled) else {
        panic!("{:?}", read(&filled));
    };
    assert!(to.reached().ends_with("by TLS"));
    echo(&to, "FIRSTREAD").await.unwrap();
    filled.remove("tls");
    assert!(read(&filled).unwrap_err().contains("tls = true"));
}

#[tokio::test]
async fn storescp_takes_objects_by_tls_from_whom_it_knows() {
    let papers = Papers::rsa();
    let folder = tempfile::tempdir().unwrap();
    let (uid, file) = object(folder.path());
    let peer = Storescp::start(&papers);
    let at = destination("pacs", "PACS", peer.port);
    let known = by_tls(&papers, at.clone(), "ca.pem", "ca-client");
    echo(&known, "FIRSTREAD").await.unwrap();
    let stored = store(&known, "FIRSTREAD", Kind::Pdf, &uid, &file).await;
    assert_eq!(stored, Ok(StoreOutcome::Stored));
    assert_eq!(std::fs::read_dir(peer.folder.path()).unwrap().count(), 1);
    for (bad, word) in [
        (by_tls(&papers, at.clone(), "ca.pem", ""), ""),
        (by_tls(&papers, at.clone(), "ca.pem", "other-client"), ""),
        (
            by_tls(&papers, at.clone(), "other.pem", "ca-client"),
            "certificate",
        ),
        (
            otherwise(&known, |t| t.tls_name = "pacs.example".into()),
            "certificate",
        ),
        (
            otherwise(&known, |t| t.ca_file = papers.path("missing.pem")),
            "missing.pem",
        ),
        (at, ""),
    ] {
        let bad = DestinationSettings {
            connect_timeout_seconds: 2,
            ..bad
        };
        let refused = echo(&bad, "FIRSTREAD").await.unwrap_err();
        assert!(refused.to_string().contains(word), "{refused}");
        assert!(
            !matches!(refused, SendError::NotTaken(_)),
            "may pass: {refused}"
        );
    }
}

#[tokio::test]
async fn commitment_is_asked_for_by_tls() {
    let papers = Papers::new();
    let folder = tempfile::tempdir().unwrap();
    let (uid, file) = object(folder.path());
    let tls = ["ca-server.pem", "ca-server.key", "ca.pem"].map(|f| papers.text(f));
    let Some(peer) = Peer::told(&json!({"commit": 1, "tls": tls})) else {
        eprintln!("skipped: no pynetdicom");
        return;
    };
    let at = destination("pacs", "PACS", peer.port);
    let to = by_tls(&papers, at.clone(), "ca.pem", "ca-client");
    let stored = store(&to, "FIRSTREAD", Kind::Pdf, &uid, &file).await;
    assert_eq!(stored, Ok(StoreOutcome::Stored));
    let what = (Kind::Pdf.sop_class_uid(), uid.as_str());
    let asked = commit(&to, "FIRSTREAD", "1.2.3.9", what, Duration::from_secs(5)).await;
    assert_eq!(asked, Ok(firstread::dicom::send::CommitOutcome::Committed));
    let unnamed = by_tls(&papers, at, "ca.pem", "");
    assert!(echo(&unnamed, "FIRSTREAD").await.is_err());
}

#[test]
fn a_key_that_is_for_tls_alone_is_named() {
    let to = destination("pacs", "PACS", 104);
    let to = otherwise(&to, |t| t.tls_name = "pacs".into());
    assert!(to.check().unwrap_err().contains("tls = true"));
}
