//! A server keeps to itself: its networks tell nobody, and its files are for nobody else. Nothing has to be set for that.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Database, TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_the_networks_does_not_tell_its_maker() {
    let (data, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let home_path = home.path().to_str().unwrap();
    let environment = [
        ("HOME", home_path),
        ("XDG_CACHE_HOME", home_path),
        ("ORT_DISABLE_TELEMETRY", "0"),
    ];
    let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let url = Database::Sqlite.fresh_url();
    let server = TestServer::start_in_with(data.path(), &url, &environment);

    // Where ONNX Runtime sends what it runs, it keeps what is not sent yet, and a number for the machine, in the home.
    let kept: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(kept.is_empty(), "{kept:?}");
    let lives_in = format!("/proc/{}/environ", server.pid());
    let lives_in = std::fs::read(lives_in).unwrap();
    let set: Vec<_> = lives_in.split(|byte| *byte == 0).collect();
    assert!(set.contains(&&b"ORT_DISABLE_TELEMETRY=1"[..]));

    let log = server.log();
    assert!(log.contains("network is ready"), "{log}");
    assert!(!log.contains('\u{1b}'), "colours in a file: {log}");

    for entry in std::fs::read_dir(data.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        let ours = mode & 0o027 == 0 || entry.file_name() == "serve.log";
        assert!(ours, "{:?} is for others: {mode:o}", entry.path());
    }
}
