//! The first start: how its password is handed over, and what becomes of it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::common::BINARY;
use crate::site::{PASSWORD, browser, field};

/// Whoever is asked to end has so long for it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A server, and what it printed until it was ready.
struct Started {
    child: Child,
    said: String,
}

impl Drop for Started {
    /// Asked first, because `script` passes that on: were it killed, the server that it started would stay.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    fn by(mut command: Command, data: &Path) -> Self {
        let log = std::fs::File::create(data.join("serve.log")).unwrap();
        let onnx = std::env::var("FIRSTREAD_ONNXRUNTIME");
        let mut child = command
            .env_remove("FIRSTREAD_ADMIN_PASSWORD")
            .env_remove("FIRSTREAD_DATABASE__URL")
            .envs(onnx.map(|path| ("FIRSTREAD_ANALYSIS__ONNXRUNTIME", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut started = Self {
            child,
            said: String::new(),
        };
        for line in lines {
            let line = line.unwrap();
            started.said.push_str(&line);
            started.said.push('\n');
            if line.contains("firstread is ready: ") {
                return started;
            }
        }
        let log = std::fs::read_to_string(data.join("serve.log")).unwrap();
        panic!("it did not start: {}\n{log}", started.said);
    }

    /// Path of a page, with host and port.
    fn url(&self, path: &str) -> String {
        let at = self.said.split_once("http://").unwrap().1;
        format!("http://{}{path}", at.split('/').next().unwrap())
    }
}

fn arguments(data: &Path) -> String {
    let at = "--http 127.0.0.1:0 --dicom 127.0.0.1:0";
    format!("serve {at} --data {}", data.display())
}

fn start(data: &Path) -> Started {
    let mut command = Command::new(BINARY);
    command.args(arguments(data).split(' '));
    Started::by(command, data)
}

#[tokio::test]
async fn without_a_terminal_the_first_password_lies_in_a_file_until_it_is_changed() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("first-password");
    let server = start(data.path());
    let password = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let log = std::fs::read_to_string(data.path().join("serve.log")).unwrap();
    assert!(
        server.said.contains(file.to_str().unwrap()),
        "{}",
        server.said
    );
    assert!(!server.said.contains(&password) && !log.contains(&password));

    let client = browser();
    let page = async |path: &str| {
        let answer = client.get(server.url(path)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let filled = [
        ("form_token", field(&page("/login").await, "form_token")),
        ("name", "admin".to_owned()),
        ("password", password.clone()),
    ];
    let signed_in = client.post(server.url("/login")).form(&filled);
    let signed_in = signed_in.send().await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let list = client.get(server.url("/worklist")).send().await.unwrap();
    assert_eq!(list.headers()["location"], "/account");
    assert!(file.exists());
    let filled = [
        ("csrf", field(&page("/account").await, "csrf")),
        ("old", password),
        ("new", PASSWORD.to_owned()),
        ("again", PASSWORD.to_owned()),
    ];
    let changed = client.post(server.url("/account/password")).form(&filled);
    let changed = changed.send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::SEE_OTHER);
    assert!(!file.exists());
    drop(server);
    let again = start(data.path());
    assert!(!again.said.contains("sign-in"), "{}", again.said);
    assert!(!file.exists());
}

#[test]
fn a_terminal_is_shown_the_first_password_and_no_file_is_written() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new("script");
    let server = format!("exec {BINARY} {}", arguments(data.path()));
    command.args(["-qefc", &server, "/dev/null"]);
    let server = Started::by(command, data.path());
    let shown = server.said.split_once("user admin, password ").unwrap().1;
    let password = shown.split(';').next().unwrap();
    assert!(password.len() >= 12 && !password.contains(' '), "{shown}");
    assert!(!data.path().join("first-password").exists());
}
