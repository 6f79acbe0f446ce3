//! Objects sent by TLS: dcmtk's storescp and pynetdicom are the peers, with and without client certificates.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firstread::dicom::objects::Kind;
use firstread::dicom::send::{DestinationSettings, SendError, StoreOutcome, commit, echo, store};
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
        tls: true,
        tls_name: "localhost".into(),
        ca_file: papers.path(ca),
        certificate_file: own("pem"),
        key_file: own("key"),
        ..to
    };
    to.check().unwrap();
    to
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
            DestinationSettings {
                tls_name: "pacs.example".into(),
                ..known.clone()
            },
            "certificate",
        ),
        (
            DestinationSettings {
                ca_file: papers.path("missing.pem"),
                ..known.clone()
            },
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
    let to = DestinationSettings {
        tls_name: "pacs".into(),
        ..destination("pacs", "PACS", 104)
    };
    assert!(to.check().unwrap_err().contains("tls = true"));
}
