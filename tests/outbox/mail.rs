//! Real servers of the other side on free ports, and what they took.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstread::alerts::{Secret, Security, SmtpSettings};
use serde_json::Value;

const USER: &str = "firstread";
const PASSWORD: &str = "correct horse";
/// How long a message is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the other side, in Python: what it got and what it answers are files in its folder.
pub struct Peer {
    pub port: u16,
    pub folder: tempfile::TempDir,
    script: &'static str,
    more: &'static [&'static str],
    python: String,
    child: Option<Child>,
}

impl Peer {
    /// Starts, or says why the test is skipped.
    pub fn start(script: &'static str, more: &'static [&'static str]) -> Option<Self> {
        let Ok(python) = std::env::var("FIRSTREAD_TEST_PYTHON") else {
            eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set, it runs {script}");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let mut peer = Self {
            port: free_port(),
            folder,
            script,
            more,
            python,
            child: None,
        };
        peer.up();
        Some(peer)
    }

    pub fn up(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/outbox")
            .join(self.script);
        let mut child = Command::new(&self.python)
            .arg(script)
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .args(self.more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "{} did not start", self.script);
        self.child = Some(child);
    }

    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Writes a file that it reads.
    pub fn set(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// What it wrote, line by line.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        lines(&self.folder.path().join(name))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.down();
    }
}

pub struct MailServer {
    peer: Peer,
}

impl MailServer {
    /// Starts, or says why the test is skipped.
    pub fn start() -> Option<Self> {
        let peer = Peer::start("smtp_server.py", &[])?;
        Some(Self { peer })
    }

    /// One that speaks TLS from the first byte.
    pub fn start_tls() -> Option<Self> {
        let peer = Peer::start("smtp_server.py", &["tls"])?;
        Some(Self { peer })
    }

    pub fn up(&mut self) {
        self.peer.up();
    }

    pub fn down(&mut self) {
        self.peer.down();
    }

    /// What it answers from now on; empty takes everything.
    pub fn answer(&self, answer: &str) {
        self.peer.set("answer", answer);
    }

    /// The password that signs in from now on.
    pub fn wants(&self, password: &str) {
        self.peer.set("wanted", password);
    }

    /// How long it works on each message from now on.
    pub fn works_ms(&self, milliseconds: u64) {
        self.peer.set("delay_ms", &milliseconds.to_string());
    }

    pub fn messages(&self) -> Vec<Message> {
        let taken = self.peer.lines("messages.jsonl");
        taken.iter().map(Message::new).collect()
    }

    /// How many messages it refused.
    pub fn refused(&self) -> usize {
        self.peer.lines("refused.jsonl").len()
    }

    /// The messages, once there are so many.
    pub async fn wait_for(&self, n: usize) -> Vec<Message> {
        let started = Instant::now();
        loop {
            let messages = self.messages();
            if messages.len() >= n {
                return messages;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} of {n} messages",
                messages.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.peer.folder.path().join("ca.pem")
    }

    pub fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "localhost".into(),
            port: self.peer.port,
            security: Security::Starttls,
            ca_file: self.ca_file(),
            user: USER.into(),
            password: Secret(PASSWORD.into()),
            from: "firstread <firstread@hospital.example>".into(),
            ..SmtpSettings::default()
        }
    }

    /// The same, as the environment of a server gives them; the password in a file.
    pub fn environment(&self) -> Vec<(String, String)> {
        let password = self.peer.folder.path().join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        let set = [
            ("HOST", "localhost".to_owned()),
            ("PORT", self.peer.port.to_string()),
            ("CA_FILE", self.ca_file().display().to_string()),
            ("USER", USER.to_owned()),
            ("PASSWORD_FILE", password.display().to_string()),
            ("FROM", "firstread@hospital.example".to_owned()),
        ];
        set.into_iter()
            .map(|(key, value)| (format!("FIRSTREAD_SMTP__{key}"), value))
            .collect()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line that is still being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// An authority of our own and a certificate for localhost, by openssl.
fn certificate(folder: &Path) {
    let script = "set -e; \
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'; \
        openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=test -days 2; \
        openssl req $new -keyout key.pem -out cert.csr -subj /CN=localhost; \
        printf 'subjectAltName=DNS:localhost\n' > names; \
        openssl x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
            -extfile names -out cert.pem -days 2";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// A message as the server took it.
#[derive(Debug, Clone)]
pub struct Message {
    pub to: String,
    pub tls: bool,
    /// As on the wire.
    pub raw: String,
    /// With the transfer encoding (RFC 2045 6.7) undone.
    pub text: String,
}

impl Message {
    fn new(taken: &Value) -> Self {
        let raw = taken["data"].as_str().unwrap().replace("\r\n", "\n");
        Self {
            to: taken["to"][0].as_str().unwrap().to_owned(),
            tls: taken["tls"].as_bool().unwrap(),
            text: raw.replace("=\n", "").replace("=3D", "="),
            raw,
        }
    }

    pub fn header(&self, name: &str) -> String {
        let marker = format!("{name}: ");
        let head = self.raw.split("\n\n").next().unwrap().replace("\n ", " ");
        let line = head.lines().find(|l| l.starts_with(&marker));
        line.map_or(String::new(), |l| l[marker.len()..].to_owned())
    }

    /// Path of the link that acknowledges.
    pub fn acknowledge_path(&self) -> String {
        let at = self.text.find("/a/").unwrap();
        self.text[at..]
            .split(|c: char| c.is_whitespace() || c == '"')
            .next()
            .unwrap()
            .to_owned()
    }
}
