//! Several processes on one PostgreSQL and one folder.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::store::Store;

use crate::common::{
    BINARY, Database, HOST, TestServer, databases, dicom_files, sample, study_uid,
};

/// A fresh database on PostgreSQL, or `None` with a printed word where there is no server.
fn postgres() -> Option<Database> {
    let all = databases();
    all.into_iter().find(|d| matches!(d, Database::Postgres(_)))
}

fn with_role(role: &str) -> Vec<(String, String)> {
    let few = ("FIRSTREAD_DATABASE__CONNECTIONS_MAX", "6");
    let role = ("FIRSTREAD_PROCESS__ROLE", role);
    [few, role]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// A browser that is signed in and listens.
async fn listening(server: &TestServer) -> reqwest::Response {
    let browser = server.administrator().await;
    let events = browser.get(format!("http://{}/events", server.http));
    let events = events.send().await.unwrap();
    assert_eq!(events.status(), 200);
    events
}

async fn hear(events: &mut reqwest::Response, what: &str) {
    let mut heard = String::new();
    let listening = async {
        while !heard.contains(what) {
            let chunk = events.chunk().await.unwrap().expect("the stream goes on");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(20), listening).await;
    within.unwrap_or_else(|_| panic!("heard no {what:?} in {heard:?}"));
}

#[tokio::test]
async fn what_one_process_does_every_browser_hears_and_another_finishes() {
    let Some(database) = postgres() else { return };
    let (data, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
    let start = |role| TestServer::start_in_with(data.path(), &url, &with_role(role));
    let (receiver, first, second) = (start("receiver"), start("web"), start("web"));
    let mut worker = start("worker");

    // Each does its own part and no other's.
    let get = async |server: &TestServer, path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", server.http));
        answer.await.unwrap().status().as_u16()
    };
    assert_eq!(get(&receiver, "/login").await, 404);
    assert_eq!(get(&worker, "/login").await, 404);
    assert_eq!(get(&first, "/login").await, 200);
    for server in [&receiver, &worker, &first] {
        assert_eq!(get(server, "/readyz").await, 200);
    }

    let mut browsers = [listening(&first).await, listening(&second).await];
    for browser in &mut browsers {
        hear(browser, "hello").await;
    }
    let files = dicom_files(&sample("one"));
    let uid = study_uid(&files[0]);
    assert!(receiver.send(&files).0);
    for browser in &mut browsers {
        hear(browser, &uid).await;
    }

    // The worker dies with the study in hand; the one that comes after takes it over.
    let started = Instant::now();
    let busy = async || {
        let sql = "SELECT COUNT(*) FROM job WHERE leased_until IS NOT NULL";
        let out = Command::new("psql").args([&url, "-qAtc", sql]).output();
        String::from_utf8(out.unwrap().stdout).unwrap().trim() != "0"
    };
    while !busy().await {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "nobody took it"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.kill();
    let killed = Instant::now();
    let other = start("worker");
    let item = first.wait_until_ranked(&uid).await;
    assert_eq!(item["state"], "screened");
    eprintln!("ranked {:?} after its worker was killed", killed.elapsed());
    drop(other);
}

#[test]
fn sharing_the_work_needs_postgresql() {
    let data = tempfile::tempdir().unwrap();
    let out = Command::new(BINARY)
        .args(["serve", "--role", "web", "--http", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .env("FIRSTREAD_DATABASE__URL", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && said.contains("database.url"),
        "{said}"
    );
}

/// Whether a process may have a machine's name of its own here.
fn may_rename() -> bool {
    let tried = Command::new("unshare")
        .args(["--uts", "hostname", "tried"])
        .output();
    let may = tried.is_ok_and(|o| o.status.success());
    if !may {
        eprintln!("skipped: may not give a process a machine's name of its own");
    }
    may
}

/// A machine dies with a job in hand and acknowledged objects in its log. Another one, with another name and another
/// way to the folder that they share, finishes both: the log at once, the job once its beats stood still, because
/// no lock of another machine says anything of a process.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_that_died_had_in_hand_is_finished_by_another() {
    let Some(database) = postgres() else { return };
    if !may_rename() {
        return;
    }
    let (place, url) = (tempfile::tempdir().unwrap(), database.fresh_url());
    let (data, elsewhere) = (place.path().join("data"), place.path().join("mounted"));
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(&data, &elsewhere).unwrap();
    let start = |host: &str, data: &Path| {
        let mut settings = with_role("all");
        settings.push((HOST.to_owned(), host.to_owned()));
        TestServer::start_in_with(data, &url, &settings)
    };
    let mut alpha = start("alpha", &data);
    let sql = |sql: &str| {
        let out = Command::new("psql").args([&url, "-qAtc", sql]).output();
        String::from_utf8(out.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(sql("SELECT node FROM process"), "alpha");
    let (files, others) = (dicom_files(&sample("one")), dicom_files(&sample("three")));
    let (first, second) = (study_uid(&files[0]), study_uid(&others[0]));
    let store = Store::open(Some(&url), &data).await.unwrap();
    let held = store.hold_studies([second.as_str()]).await.unwrap();
    assert!(alpha.send(&files).0);
    let began = Instant::now();
    while sql("SELECT COUNT(*) FROM job WHERE leased_until IS NOT NULL") == "0" {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody took it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        alpha.send(&others[..4]).0,
        "acknowledged, and in its log alone"
    );
    alpha.kill();
    held.end().await.unwrap();
    let killed = Instant::now();

    let beta = start("beta", &elsewhere);
    beta.wait_for(&second, |i| i["images"] == 4).await;
    let recorded = killed.elapsed();
    let item = beta.wait_until_ranked(&first).await;
    let ranked = killed.elapsed();
    assert_eq!(item["state"], "screened");
    eprintln!("log recorded after {recorded:?}, job finished after {ranked:?}");
    assert!(recorded < Duration::from_secs(12), "{recorded:?}");
    assert!(
        ranked > Duration::from_secs(14),
        "alpha's beats stood still: {ranked:?}"
    );
    assert!(ranked < Duration::from_mins(1), "{ranked:?}");
    beta.wait_until_ranked(&second).await;
    assert_eq!(sql("SELECT node FROM process"), "beta");
    let screenings = format!(
        "SELECT COUNT(*) FROM screening WHERE study_id = (SELECT id FROM study WHERE study_uid = '{first}')"
    );
    assert_eq!(sql(&screenings), "1", "screened once");
}

/// The short form of what `benches/scale_out.py` does for five minutes.
#[test]
fn processes_are_killed_in_turn_and_nothing_is_lost() {
    let Some(database) = postgres() else { return };
    let Some(python) = std::env::var_os("FIRSTREAD_TEST_PYTHON") else {
        return eprintln!("skipped: FIRSTREAD_TEST_PYTHON is not set");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scale_out.py");
    let out = Command::new(python)
        .arg(script)
        .args([BINARY, &database.fresh_url()])
        .args(["--receivers", "2", "--workers", "2", "--web", "1"])
        .args([
            "--seconds",
            "10",
            "--kill-every",
            "2",
            "--senders",
            "2",
            "--gap",
            "4",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    eprintln!("{said}");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
