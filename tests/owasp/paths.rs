//! No identifier becomes a way through folders: through C-STORE and through every address.

use std::path::{Path, PathBuf};

use firstread::store::accounts::Role;
use firstread::web::{Access, rules};
use reqwest::Method;

use crate::client::{Client, EXPLICIT, MR};
use crate::common::TestServer;
use crate::data::put;
use crate::marked::{Visitor, encoded};

/// A word that no file of ours has in its name.
const WORD: &str = "evil";
const SECRET: &str = "this stands in no answer";

/// Identifiers that lead elsewhere, were they believed.
fn ways() -> Vec<String> {
    let far = "../".repeat(12);
    let mut all: Vec<String> = [
        "../evil",
        "../../evil",
        "..",
        ".",
        "/evil",
        "1.2/../../evil",
        "1.2/evil",
        "..\\evil",
        "1.2\\..\\..\\evil",
        "1.2\0/../evil",
        "\0evil",
        "%2e%2e%2fevil",
        "..%2fevil",
        "....//evil",
        "1.2;evil",
        "~/evil",
        "$HOME/evil",
        "file:///tmp/evil",
        "evil\r\n1.2",
        "evil",
        "CON.evil",
        "-evil",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("{far}tmp/evil"));
    all.push(format!("evil{}", "1".repeat(300)));
    all.push("1".repeat(5000));
    all
}

/// Every path below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // what is being received may go while we look
            if path.is_dir() && !path.ends_with("spool") {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// A small object with these UIDs, in explicit VR little endian.
fn object(sop: &str, study: &str, series: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, (8, 0x16), "UI", MR.as_bytes());
    put(&mut bytes, (8, 0x18), "UI", sop.as_bytes());
    put(&mut bytes, (8, 0x50), "SH", study.as_bytes());
    put(&mut bytes, (8, 0x60), "CS", b"MR");
    put(&mut bytes, (0x10, 0x10), "PN", b"Test^Person");
    put(&mut bytes, (0x10, 0x20), "LO", series.as_bytes());
    put(&mut bytes, (0x20, 0x0D), "UI", study.as_bytes());
    put(&mut bytes, (0x20, 0x0E), "UI", series.as_bytes());
    put(&mut bytes, (0x7FE0, 0x10), "OW", &[0x5A; 64]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_uid_leads_out_of_the_folders() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("outer/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(place.path().join("outer/canary.txt"), SECRET).unwrap();
    let server = TestServer::start_in(&data, "");
    let dicom = server.dicom;
    let refused = tokio::task::spawn_blocking(move || {
        let (mut refused, mut sent) = (0, 0);
        for way in ways() {
            let good = ["1.2.3.1", "1.2.3", "1.2.3.4"];
            for bad in 0..4 {
                let mut uids = good.map(str::to_owned);
                let instance = if bad == 3 {
                    way.clone()
                } else {
                    good[0].to_owned()
                };
                if bad < 3 {
                    uids[bad].clone_from(&way);
                }
                let [sop, study, series] = &uids;
                let instance = if bad == 0 { sop.clone() } else { instance };
                let mut client = Client::with(dicom, &[(MR, &[EXPLICIT])]);
                let answer = client.store(MR, &instance, &object(sop, study, series));
                sent += 1;
                refused += u32::from(answer.status != 0);
            }
        }
        // and one that is as it should be is taken
        let mut client = Client::with(dicom, &[(MR, &[EXPLICIT])]);
        let answer = client.store(MR, "1.2.9.1", &object("1.2.9.1", "1.2.9", "1.2.9.4"));
        assert_eq!(answer.status, 0);
        client.release();
        (refused, sent)
    });
    let (refused, sent) = refused.await.unwrap();
    assert_eq!(refused, sent, "each is refused");

    let shown = Visitor::sign_in(&server).await;
    every_address(&server, &shown, &data).await;
    let began = std::time::Instant::now();
    while !data.join("objects/1.2.9/1.2.9.4/1.2.9.1.dcm").exists() {
        assert!(began.elapsed().as_secs() < 20, "the good one is recorded");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for path in below(place.path()) {
        assert!(!path.to_string_lossy().contains(WORD), "{}", path.display());
        let inside = path.starts_with(&data) || data.starts_with(&path);
        let canary = path.ends_with("outer/canary.txt");
        assert!(inside || canary, "made outside: {}", path.display());
    }
    assert_eq!(
        below(&data.join("objects")).len(),
        3,
        "one study, one series, one object"
    );
    assert!(!Path::new("/tmp/evil").exists() && !Path::new("/evil").exists());
}

/// Ways out as addresses spell them, to a file that is there.
fn spelled() -> Vec<String> {
    let mut all: Vec<String> = ways().iter().map(|way| encoded(way.as_str())).collect();
    for up in [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..%5c",
        "%c0%ae%c0%ae/",
        "..;/",
        "....//",
    ] {
        for target in ["canary.txt", "etc/passwd", "links.key"] {
            for times in [2, 12] {
                all.push(format!("{}{target}", up.repeat(times)));
            }
        }
    }
    all.extend(
        [
            "%2fetc%2fpasswd",
            "/etc/passwd",
            "links.key",
            "firstread.db",
            "firstread.db%00.png",
        ]
        .map(str::to_owned),
    );
    all
}

/// Sends a path as it stands: clients tidy what they are given.
async fn get_raw(
    server: &TestServer,
    method: &Method,
    path: &str,
    headers: &str,
) -> (u16, Vec<u8>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n",
        server.http
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or(0), answer)
}

async fn every_address(server: &TestServer, visitor: &Visitor, data: &Path) {
    let key = std::fs::read(data.join("links.key")).unwrap();
    let token = server.create_token(Role::Integration.as_str());
    let cookie = format!("Cookie: {}\r\n", visitor.cookie());
    let with_parts = rules()
        .iter()
        .filter(|r| r.method == "GET" && r.path.contains('{'));
    let mut asked = 0;
    for rule in with_parts {
        let parts: Vec<&str> = rule.path.split('/').filter(|p| p.contains('{')).collect();
        for part in &parts {
            let part = &part[..=part.find('}').unwrap()];
            for way in spelled() {
                let path = rule.path.replace(part, &way);
                let path = path
                    .replace("{study_uid}", "1.2.9")
                    .replace("{series_uid}", "1.2.9.4")
                    .replace("{picture}", "axial")
                    .replace("{type}", "ImagingStudy")
                    .replace("{name}", "firstread.css")
                    .replace("{id}", "1");
                let method = Method::from_bytes(rule.method.as_str().as_bytes()).unwrap();
                let by = match rule.access {
                    Access::Api(roles) if roles.contains(&Role::Integration) => {
                        format!("Authorization: Bearer {token}\r\n")
                    }
                    _ => cookie.clone(),
                };
                let (status, answer) = get_raw(server, &method, &path, &by).await;
                asked += 1;
                let what = format!("{method} {path}: {status}");
                assert!((200..500).contains(&status), "{what}");
                let has = |bytes: &[u8]| answer.windows(bytes.len()).any(|w| w == bytes);
                assert!(!has(SECRET.as_bytes()), "{what}");
                assert!(!has(b"root:x:0") && !has(b"SQLite format 3"), "{what}");
                assert!(key.is_empty() || !has(&key), "{what}: a key");
            }
        }
    }
    assert!(asked > 1000, "{asked} addresses");
}
