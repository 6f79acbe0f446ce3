//! Pages by https: stock `openssl` and `curl`, headers and cookies, renewed files, silent peers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::web::{WebSettings, answer_while_starting};
use tokio_util::sync::CancellationToken;

use crate::common::Database;
use crate::papers::Papers;
use crate::site::{PASSWORD, Site, field};
use firstread::store::accounts::Role;

async fn site(papers: &Papers, change: impl FnOnce(&mut WebSettings)) -> Site {
    let mut settings = WebSettings {
        tls_certificate_file: papers.path("ca-server.pem"),
        tls_key_file: papers.path("ca-server.key"),
        ..WebSettings::default()
    };
    change(&mut settings);
    settings.check().unwrap();
    Site::with(&Database::Sqlite, settings).await
}

/// curl with what it trusts, and cookies kept in a file.
async fn curl(papers: &Papers, arguments: &[&str]) -> (bool, String) {
    let mut curl = Command::new("curl");
    let jar = papers.text("jar");
    curl.args(["-sS", "-i", "--cacert", &papers.text("ca.pem")]);
    curl.args(["-b", &jar, "-c", &jar]).args(arguments);
    let out = tokio::task::spawn_blocking(move || curl.output().unwrap());
    let out = out.await.unwrap();
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_https_alone_and_say_so() {
    let papers = Papers::new();
    let site = site(&papers, |_| {}).await;
    site.user("reader", Role::Reader).await;
    assert!(site.base.starts_with("https://"));
    // HTTP/1.1 alone: nothing of ours needs the second, and it has more to get wrong
    for more in ["--http1.1", "--http2"] {
        let (fine, said) = curl(&papers, &[more, &site.url("/healthz")]).await;
        assert!(fine && said.contains("HTTP/1.1 200"), "{said}");
        let lower = said.to_lowercase();
        assert!(
            lower.contains("strict-transport-security: max-age=31536000"),
            "{said}"
        );
    }
    let (_, form) = curl(&papers, &[&site.url("/login")]).await;
    let form_token = field(&form, "form_token");
    let token = format!("form_token={form_token}");
    let password = format!("password={PASSWORD}");
    let filled = ["-d", &token, "-d", "name=reader", "-d", &password];
    let (_, said) = curl(&papers, &[&filled[..], &[&site.url("/login")]].concat()).await;
    let cookie = said
        .lines()
        .find(|l| l.contains("firstread_session="))
        .unwrap();
    for word in ["Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let (_, list) = curl(&papers, &[&site.url("/worklist")]).await;
    assert!(list.contains("No open studies"), "{list}");
    // who trusts another authority comes to no page, and neither does plain HTTP
    let (fine, _) = curl(
        &papers,
        &["--cacert", &papers.text("other.pem"), &site.url("/healthz")],
    )
    .await;
    assert!(!fine);
    let (fine, said) = curl(&papers, &[&site.url("/healthz").replace("https", "http")]).await;
    assert!(!fine, "{said}");
    // old versions are refused
    let port = site.port();
    for old in ["-tls1", "-tls1_1"] {
        let said = tokio::task::spawn_blocking(move || Papers::shown_by(port, &[old]));
        let said = said.await.unwrap();
        assert!(!said.contains("CN = server"), "{old}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let papers = Papers::new();
    let site = site(&papers, |_| {}).await;
    let port = site.port();
    let subject = || tokio::task::spawn_blocking(move || Papers::shown_by(port, &[]));
    assert!(subject().await.unwrap().contains("CN = server"));
    papers.renew("ca-renewed", "ca-server");
    let began = Instant::now();
    while !subject().await.unwrap().contains("CN = renewed") {
        assert!(began.elapsed().as_secs() < 10, "never renewed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_finish_the_handshake_stops_nobody() {
    let papers = Papers::new();
    let site = site(&papers, |s| s.header_timeout_seconds = 2).await;
    let port = site.port();
    let mut silent: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // nothing, or the beginning of a record
            stream.write_all(&[0x16, 3, 1][..n % 4]).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let (fine, said) = curl(&papers, &[&site.url("/healthz")]).await;
    assert!(fine, "{said}");
    assert!(began.elapsed() < Duration::from_millis(1500), "others wait");
    let ended = tokio::task::spawn_blocking(move || {
        for stream in &mut silent {
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut buffer = [0; 64];
            while let Ok(n) = stream.read(&mut buffer) {
                if n == 0 {
                    break;
                }
            }
        }
    });
    ended.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "they stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_says_so_by_https() {
    let papers = Papers::new();
    let settings = WebSettings {
        tls_certificate_file: papers.path("ca-server.pem"),
        tls_key_file: papers.path("ca-server.key"),
        ..WebSettings::default()
    };
    let https = settings.tls().unwrap();
    let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://localhost:{}", door.local_addr().unwrap().port());
    let stop = CancellationToken::new();
    // one that says nothing holds up the others for a moment only
    let silent = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let answering = answer_while_starting(door, https, stop.clone());
    let answering = tokio::spawn(answering);
    let (fine, said) = curl(&papers, &[&format!("{base}/healthz")]).await;
    assert!(fine && said.contains("HTTP/1.1 200"), "{said}");
    let (fine, said) = curl(&papers, &[&format!("{base}/readyz")]).await;
    assert!(fine && said.contains("HTTP/1.1 503"), "{said}");
    assert!(said.contains("\"code\":\"starting\""), "{said}");
    let plain = base.replace("https", "http");
    let (fine, said) = curl(&papers, &[&format!("{plain}/healthz")]).await;
    assert!(!fine && !said.contains("200"), "{said}");
    drop(silent);
    stop.cancel();
    answering.await.unwrap();
}
