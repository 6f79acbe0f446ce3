//! Drives the real binary over its real protocols: `firstread serve`, dcmtk, HTTP.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::zombie_processes,
    clippy::used_underscore_binding,
    clippy::duration_suboptimal_units,
    missing_docs,
    reason = "a test fails where it stands; each file uses its own part"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A setting for `spawn` alone: the name of the machine that the process is to think it runs on.
pub const HOST: &str = "TEST_HOST";

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_firstread");

/// Where the list of databases to test on comes from: SQLite always, PostgreSQL where
/// `FIRSTREAD_TEST_POSTGRES_URL` names a server on which databases may be made.
pub fn databases() -> Vec<Database> {
    let mut all = vec![Database::Sqlite];
    match std::env::var("FIRSTREAD_TEST_POSTGRES_URL") {
        Ok(url) if !url.is_empty() => all.push(Database::Postgres(url)),
        _ => eprintln!("skipped on PostgreSQL: FIRSTREAD_TEST_POSTGRES_URL is not set"),
    }
    all
}

/// A database to test on.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite,
    Postgres(String),
}

impl Database {
    /// URL of a fresh database, empty for SQLite.
    pub fn fresh_url(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Self::Postgres(server) = self else {
            return String::new();
        };
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{n}", std::process::id());
        let made = Command::new("psql")
            .args([server, "-qc", &format!("CREATE DATABASE {name}")])
            .status()
            .unwrap();
        assert!(made.success(), "could not make a database");
        let (before, query) = server
            .split_once('?')
            .map_or((server.as_str(), ""), |(b, q)| (b, q));
        let scheme_end = before.find("://").unwrap() + 3;
        let end = before[scheme_end..]
            .find('/')
            .map_or(before.len(), |at| scheme_end + at);
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        format!("{}/{name}{query}", &before[..end])
    }
}

/// Folder of real test data, or `None` with a printed word where this machine has none.
pub fn test_data() -> Option<PathBuf> {
    let root = std::env::var("FIRSTREAD_TEST_DATA").unwrap_or_else(|_| "../shared/data".into());
    let root = PathBuf::from(root);
    if root.join("dicom").is_dir() {
        Some(root)
    } else {
        eprintln!("skipped: no real test data at {}", root.display());
        None
    }
}

/// A real DICOM study of the test data, unpacked.
pub fn real_study(name: &str) -> Option<PathBuf> {
    let archive = test_data()?.join(format!("dicom/{name}.tar.xz"));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("dicom")
        .join(name);
    if !target.join(".done").exists() {
        let part = target.with_extension(format!("part{}", std::process::id()));
        std::fs::create_dir_all(&part).unwrap();
        let done = Command::new("tar")
            .arg("-xJf")
            .arg(&archive)
            .arg("-C")
            .arg(&part)
            .status()
            .unwrap();
        assert!(done.success());
        std::fs::write(part.join(".done"), "").unwrap();
        // Another test may have been faster: then its copy serves.
        if std::fs::rename(&part, &target).is_err() {
            let _ = std::fs::remove_dir_all(&part);
        }
    }
    Some(target)
}

/// A program of dcmtk. An active Python environment with pynetdicom has programs of the same names in front of it.
pub fn dcmtk(name: &str) -> Command {
    let installed = Path::new("/usr/bin").join(name);
    if installed.exists() {
        Command::new(installed)
    } else {
        Command::new(name)
    }
}

/// All DICOM files below a folder, sorted.
pub fn dicom_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if is_dicom(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_dicom(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 132];
    std::fs::File::open(path)
        .and_then(|mut f| f.read_exact(&mut head))
        .is_ok()
        && &head[128..] == b"DICM"
}

/// A synthetic sample study of the repository.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name)
}

/// A folder of networks: ours for screening, and one that measures by place and brightness alone
/// (`tests/samples/networks/make.py`), so that what it must give is known.
pub fn test_networks() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "models/screening.onnx",
        "models/screening.toml",
        "models/screening.norms.toml",
        "tests/samples/networks/volumetry.onnx",
        "tests/samples/networks/volumetry.toml",
    ] {
        let from = root.join(name);
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    folder
}

/// A running `firstread serve`, killed when dropped.
pub struct TestServer {
    pub data: PathBuf,
    pub http: SocketAddr,
    pub dicom: SocketAddr,
    /// Where `FIRSTREAD_LISTEN__HL7` is set.
    pub hl7: Option<SocketAddr>,
    /// Where `FIRSTREAD_LISTEN__DICOM_TLS` is set.
    pub dicom_tls: Option<SocketAddr>,
    /// Where certificates are set.
    pub https: bool,
    pub token: String,
    url: String,
    child: Child,
    settings: Vec<(String, String)>,
    _folder: Option<tempfile::TempDir>,
    client: reqwest::Client,
}

impl TestServer {
    /// Starts on a fresh data folder and database.
    pub fn start(database: &Database) -> Self {
        Self::start_with(database, &[])
    }

    /// Starts on a fresh data folder and database, with settings as the environment gives them.
    pub fn start_with(database: &Database, settings: &[(String, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = database.fresh_url();
        let mut server = Self::start_so(folder.path(), &url, settings);
        server._folder = Some(folder);
        server
    }

    /// Starts on what an earlier server left.
    pub fn start_in(data: &Path, url: &str) -> Self {
        Self::start_so(data, url, &[])
    }

    /// The same with settings as the environment gives them.
    pub fn start_in_with(data: &Path, url: &str, settings: &[(String, String)]) -> Self {
        Self::start_so(data, url, settings)
    }

    /// Starts with the networks of a folder, and measures after screening.
    pub fn start_measuring(database: &Database, models: &Path) -> Self {
        let settings = [
            ("FIRSTREAD_ANALYSIS__VOLUMETRY", "true"),
            ("FIRSTREAD_ANALYSIS__MODELS", models.to_str().unwrap()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self::start_with(database, &settings)
    }

    fn start_so(data: &Path, url: &str, settings: &[(String, String)]) -> Self {
        let started = spawn(data, url, settings);
        let mut server = Self {
            data: data.to_path_buf(),
            http: started.http,
            dicom: started.dicom,
            hl7: started.hl7,
            dicom_tls: started.dicom_tls,
            https: started.https,
            token: String::new(),
            url: url.to_owned(),
            child: started.child,
            settings: settings.to_vec(),
            _folder: None,
            client: reqwest::Client::new(),
        };
        server.token = server.create_token("reader");
        server
    }

    /// `kill -9`, then a new process on the same data.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let started = spawn(&self.data, &self.url, &self.settings);
        self.child = started.child;
        self.http = started.http;
        self.dicom = started.dicom;
        self.hl7 = started.hl7;
        self.dicom_tls = started.dicom_tls;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, as systemd and containers do, and waits until it has; gives whether it ended well.
    pub fn terminate(&mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    pub fn create_token(&self, role: &str) -> String {
        let out = Command::new(BINARY)
            .args(["token", "create", "test", "--role", role, "--data"])
            .arg(&self.data)
            .env("FIRSTREAD_DATABASE__URL", &self.url)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub async fn get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.http);
        let answer = self
            .client
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("serve.log")).unwrap()
    }

    /// A browser in which the first user is signed in.
    pub async fn administrator(&self) -> reqwest::Client {
        let client = reqwest::Client::builder()
            .cookie_store(true)
            .build()
            .unwrap();
        let login = format!("http://{}/login", self.http);
        let form = client
            .get(&login)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let form_token = hidden(&form, "form_token");
        let filled = [
            ("form_token", form_token.as_str()),
            ("name", "admin"),
            ("password", "a long test password"),
        ];
        let answer = client.post(&login).form(&filled).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        client
    }

    /// What a peer said of a delivery that failed is in no log and no list; an administrator sees it by a button.
    pub async fn covers(&self, delivery: &Value, words: &str) {
        assert!(!delivery.to_string().contains(words), "{delivery}");
        let client = self.administrator().await;
        let own = format!("http://{}/deliveries/{}", self.http, delivery["id"]);
        let shown = format!("<bdi>{}</bdi>", delivery["said"].as_str().unwrap());
        let mut csrf = String::new();
        for url in [&format!("http://{}/deliveries", self.http), &own] {
            let page = client.get(url).send().await.unwrap().text().await.unwrap();
            assert!(page.contains(&shown), "no {shown} in {page}");
            assert!(!page.contains(words), "{page}");
            csrf = hidden(&page, "csrf");
        }
        let asked = client
            .post(format!("{own}/message"))
            .form(&[("csrf", &csrf)]);
        let page = asked.send().await.unwrap().text().await.unwrap();
        assert!(page.contains(words), "{page}");
        let log = self.log();
        assert!(log.contains("could not deliver"), "{log}");
        assert!(!log.contains(words), "{log}");
    }

    pub async fn worklist(&self) -> Vec<Value> {
        self.get("/api/v1/worklist").await["items"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub async fn item(&self, study_uid: &str) -> Option<Value> {
        self.worklist()
            .await
            .into_iter()
            .find(|i| i["study_uid"] == study_uid)
    }

    /// Waits until `done` holds for the study's row.
    pub async fn wait_for(&self, study_uid: &str, done: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let item = self.item(study_uid).await.unwrap_or_default();
            if done(&item) {
                return item;
            }
            assert!(
                started.elapsed() < Duration::from_secs(180),
                "waited in vain: {item}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the study is screened, not analysed or failed.
    pub async fn wait_until_ranked(&self, study_uid: &str) -> Value {
        self.wait_for(study_uid, |i| {
            ["screened", "not_analysed", "failed"].contains(&i["state"].as_str().unwrap_or(""))
        })
        .await
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until nothing is left to do.
    pub async fn wait_until_idle(&self) {
        let started = Instant::now();
        while self.metric("firstread_jobs_waiting").await > 0.0 {
            assert!(
                started.elapsed() < Duration::from_secs(180),
                "jobs are left"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.http);
        let text = self
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = text
            .lines()
            .find(|l| l.starts_with(name) && l[name.len()..].starts_with(' '));
        line.and_then(|l| l.rsplit(' ').next())
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Sends with stock `storescu`; gives whether it was content and what it printed.
    pub fn send(&self, files: &[PathBuf]) -> (bool, String) {
        let out = self.storescu(files).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &*String::from_utf8_lossy(&out.stderr);
        (out.status.success(), text)
    }

    /// `storescu` for these files, not yet started: verbose, so that each answer is seen.
    pub fn storescu(&self, files: &[PathBuf]) -> Command {
        let mut command = dcmtk("storescu");
        command
            .args(["-v", "-xf"])
            .arg(storescu_profile())
            .args([
                "All",
                "-aec",
                "FIRSTREAD",
                &self.dicom.ip().to_string(),
                &self.dicom.port().to_string(),
            ])
            .args(files);
        command.env_remove("TCP_NODELAY");
        command
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Value of a hidden field.
pub fn hidden(page: &str, name: &str) -> String {
    let marker = format!("name=\"{name}\" value=\"");
    let rest = page.split_once(&marker).unwrap().1;
    rest.split('"').next().unwrap().to_owned()
}

/// Presentation contexts for every storage class and syntax the samples use.
fn storescu_profile() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("storescu.cfg");
    let part = path.with_extension(format!("part{}", std::process::id()));
    std::fs::write(&part, include_str!("storescu.cfg")).unwrap();
    std::fs::rename(&part, &path).unwrap();
    path
}

/// A process that said where it listens.
struct Started {
    child: Child,
    http: SocketAddr,
    dicom: SocketAddr,
    hl7: Option<SocketAddr>,
    dicom_tls: Option<SocketAddr>,
    https: bool,
}

fn spawn(data: &Path, url: &str, settings: &[(String, String)]) -> Started {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(data.join("serve.log"))
        .unwrap();
    let host = settings.iter().find(|(key, _)| key == HOST);
    let mut command = match host {
        None => Command::new(BINARY),
        Some((_, name)) => {
            let mut command = Command::new("unshare");
            let script = "hostname \"$0\" && exec \"$@\"";
            command.args(["--uts", "sh", "-c", script, name, BINARY]);
            command
        }
    };
    let mut child = command
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--dicom",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data)
        .env("FIRSTREAD_DATABASE__URL", url)
        .env("FIRSTREAD_ADMIN_PASSWORD", "a long test password")
        // Studies are measured where a test asks for it.
        .env("FIRSTREAD_ANALYSIS__VOLUMETRY", "false")
        .envs(settings.iter().cloned())
        .envs(
            std::env::var("FIRSTREAD_ONNXRUNTIME").map(|p| ("FIRSTREAD_ANALYSIS__ONNXRUNTIME", p)),
        )
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let Some(Ok(line)) = lines.next() else {
            let log = std::fs::read_to_string(data.join("serve.log")).unwrap_or_default();
            panic!("the server did not start:\n{log}");
        };
        if let Some(rest) = line.strip_prefix("firstread is ready: ") {
            let (scheme, rest) = rest.split_once("://").unwrap();
            // A process that only shows pages has no DICOM.
            let http = rest.split('/').next().unwrap();
            let dicom = rest.split_once("  DICOM on ").map_or("", |(_, at)| at);
            let (rest, dicom_tls) = dicom.split_once("  DICOM TLS on ").unwrap_or((dicom, ""));
            let (dicom, hl7) = rest.split_once("  HL7 on ").unwrap_or((rest, ""));
            return Started {
                child,
                http: http.parse().unwrap(),
                dicom: dicom.parse().unwrap_or(([0, 0, 0, 0], 0).into()),
                hl7: hl7.parse().ok(),
                dicom_tls: dicom_tls.parse().ok(),
                https: scheme == "https",
            };
        }
    }
}

/// Value of a tag by dcmtk's `dcmdump`.
pub fn tag(file: &Path, tag: &str) -> String {
    let out = Command::new("dcmdump")
        .args(["+P", tag])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let value = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    value.map(|(v, _)| v.to_owned()).unwrap_or_default()
}

/// Study Instance UID of a file.
pub fn study_uid(file: &Path) -> String {
    tag(file, "0020,000d")
}

/// Copies files into a folder and changes tags with dcmtk's `dcmodify`.
pub fn modified(files: &[PathBuf], folder: &Path, changes: &[&str]) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    let mut copies = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let copy = folder.join(format!("{n:04}.dcm"));
        std::fs::copy(file, &copy).unwrap();
        copies.push(copy);
    }
    let mut command = Command::new("dcmodify");
    command.arg("-nb");
    for change in changes {
        command.args(["-i", change]);
    }
    assert!(command.args(&copies).status().unwrap().success());
    copies
}
