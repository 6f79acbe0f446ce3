//! Peers: a plain one for what no library sends, and python-hl7 with hl7apy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use firstread::hl7::{Hl7Settings, Receiver, listen};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::site::Site;

/// Longest wait for anything a peer says.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that sends what it is told.
pub struct Peer(TcpStream);

impl Peer {
    pub async fn connect(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.unwrap())
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub async fn send(&mut self, message: &str) -> String {
        self.write(&[b"\x0b", message.as_bytes(), b"\x1c\r"].concat())
            .await;
        self.answer().await
    }

    /// The next frame; panics where none comes.
    pub async fn answer(&mut self) -> String {
        let mut all = Vec::new();
        let read = async {
            while !all.ends_with(b"\x1c\r") {
                let byte = self.0.read_u8().await.unwrap();
                all.push(byte);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
        assert_eq!(all[0], 0x0b);
        String::from_utf8(all[1..all.len() - 2].to_vec()).unwrap()
    }

    /// Whether the other side ended the connection without a word more.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut byte)).await;
        matches!(read.unwrap(), Ok(0) | Err(_))
    }
}

/// MSA-1 and MSA-2 of an answer.
pub fn msa(answer: &str) -> (&str, &str) {
    let msa = answer.split('\r').find(|l| l.starts_with("MSA")).unwrap();
    let mut fields = msa.split('|').skip(1);
    (fields.next().unwrap(), fields.next().unwrap())
}

/// A message of this kind under this control id.
pub fn message(kind: &str, id: &str, rest: &str) -> String {
    format!(
        "MSH|^~\\&|RIS|HOSP|FIRSTREAD||20261126083000||{kind}|{id}|P|2.5.1||||||UNICODE UTF-8\r{rest}"
    )
}

/// A listener on a site's store.
pub async fn listening(site: &Site, settings: Hl7Settings) -> (SocketAddr, CancellationToken) {
    let tls = settings.tls().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let receiver = Receiver {
        store: site.store.clone(),
        clock: site.clock.clone(),
        ranker: site.ranker.clone(),
        news: site.news.clone(),
        settings: Arc::new(settings),
    };
    tokio::spawn(listen::serve(listener, receiver, tls, stop.clone()));
    (at, stop)
}

/// `tests/hl7/peer.py`, which speaks for python-hl7 and hl7apy; killed when dropped.
pub struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Python {
    /// `None` with a printed word where this machine has no such interpreter.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let Some(python) = std::env::var_os("FIRSTREAD_TEST_PYTHON") else {
            eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hl7/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, to, from })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.to, "{question}").unwrap();
        self.to.flush().unwrap();
        self.line()
    }

    /// The same, where it may break instead.
    pub fn try_ask(&mut self, question: &Value) -> Option<Value> {
        let _ = writeln!(self.to, "{question}").and_then(|()| self.to.flush());
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    /// The next line it says.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the Python peer broke");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
