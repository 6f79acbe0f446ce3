//! Peers to send to: one that answers as it is told, dcmtk's storescp, a real Orthanc.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstread::dicom::send::DestinationSettings;
use serde_json::{Value, json};

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// How a destination is told of in the settings.
pub fn destination(name: &str, ae_title: &str, port: u16) -> DestinationSettings {
    DestinationSettings {
        connect_timeout_seconds: 5,
        answer_timeout_seconds: 10,
        ..DestinationSettings::new(name, ae_title, "127.0.0.1", port)
    }
}

/// A running peer, killed when dropped.
pub struct Peer {
    pub port: u16,
    pub http: u16,
    pub folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// A PACS of our own script; `None` where there is no pynetdicom.
    pub fn told(answers: &Value) -> Option<Self> {
        let python = std::env::var("FIRSTREAD_TEST_PYTHON").ok()?;
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let mut child = Command::new(python)
            .arg("tests/results/pacs.py")
            .arg(port.to_string())
            .arg(folder.path())
            .arg(answers.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready");
        Some(Self {
            port,
            http: 0,
            folder,
            child,
        })
    }

    /// dcmtk's storescp.
    pub fn storescp() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let child = crate::common::dcmtk("storescp")
            .args(["-aet", "PACS", "-od"])
            .arg(folder.path())
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self {
            port,
            http: 0,
            folder,
            child,
        };
        Self::wait(port);
        peer
    }

    /// A real Orthanc with an empty store; `None` where it is not installed.
    pub fn orthanc() -> Option<Self> {
        let program = ["/usr/sbin/Orthanc", "/usr/bin/Orthanc"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(program) = program else {
            eprintln!("skipped: Orthanc is not installed");
            return None;
        };
        let (port, http, folder) = (free_port(), free_port(), tempfile::tempdir().unwrap());
        let store = folder.path().join("store");
        let settings = json!({
            "Name": "test", "StorageDirectory": store, "IndexDirectory": store,
            "DicomAet": "ORTHANC", "DicomPort": port, "DicomCheckCalledAet": true,
            "HttpPort": http, "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
            "DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true, "Plugins": [],
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, settings.to_string()).unwrap();
        let child = Command::new(program)
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self {
            port,
            http,
            folder,
            child,
        };
        Self::wait(port);
        Self::wait(http);
        Some(peer)
    }

    pub fn wait(port: u16) {
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_mins(1),
                "the peer did not start"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it stored.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|e| e.unwrap().path())
            .filter(|p| p.is_file())
            .collect()
    }

    /// Orthanc's objects, as files named by their kind.
    pub async fn fetch(&self, folder: &Path) {
        let instances = self.get("/instances").await;
        let mut captures = 0;
        for id in instances.as_array().unwrap() {
            let id = id.as_str().unwrap();
            let url = format!("http://127.0.0.1:{}/instances/{id}/file", self.http);
            let bytes = reqwest::get(url).await.unwrap().bytes().await.unwrap();
            let modality = self.get(&format!("/instances/{id}/simplified-tags")).await;
            let description = modality["SeriesDescription"].as_str().unwrap();
            let name = match modality["Modality"].as_str().unwrap() {
                "SEG" if description.contains("lesions") => "seg_lesions.dcm".to_owned(),
                "SEG" => "seg.dcm".to_owned(),
                "SR" => "sr.dcm".to_owned(),
                "DOC" => "pdf.dcm".to_owned(),
                _ => {
                    captures += 1;
                    format!("sc{captures}.dcm")
                }
            };
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }

    /// Orthanc's REST interface.
    pub async fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }
}
