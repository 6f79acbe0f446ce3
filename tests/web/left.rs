//! Clients that do not stay for the answer: what they asked for is done to its end, and counted.

use std::time::{Duration, Instant};

use firstread::store::accounts::Role;
use firstread::store::trail::Wanted;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::site::{PASSWORD, Site, browser, field};

const SOON: Duration = Duration::from_secs(30);

/// What a browser sends when it signs in, without the browser.
async fn sign_in(site: &Site, password: &str) -> (String, Vec<u8>) {
    let form = browser().get(site.url("/login")).send().await.unwrap();
    let cookies = form.headers().get_all("set-cookie").iter();
    let cookies: Vec<&str> = cookies
        .map(|c| c.to_str().unwrap().split(';').next().unwrap())
        .collect();
    let cookies = cookies.join("; ");
    let token = field(&form.text().await.unwrap(), "form_token");
    let body = format!("form_token={token}&name=anna&password={password}");
    let base = site.url("");
    let host = base.strip_prefix("http://").unwrap();
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    (host.to_owned(), request.into_bytes())
}

/// Sends that and is gone, as a cable that is pulled is: nothing of ours can be sent any more.
async fn ask_and_leave(host: &str, request: &[u8]) {
    let mut wire = TcpStream::connect(host).await.unwrap();
    wire.set_zero_linger().unwrap();
    wire.write_all(request).await.unwrap();
    // it must have been read: a reset throws away what was not
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_counts_though_nobody_waits_for_the_answer() {
    let site = Site::start().await;
    site.user("anna", Role::Reader).await;
    let (host, request) = sign_in(&site, "a-wrong-password").await;
    for _ in 0..6 {
        ask_and_leave(&host, &request).await;
    }
    let began = Instant::now();
    loop {
        let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
        let tried = trail.iter().filter(|e| e.action == "login").count();
        if tried == 6 {
            break;
        }
        assert!(
            began.elapsed() < SOON,
            "{tried} of 6 tries are in the trail"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = site.sign_in(&browser(), "anna", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_the_trail_though_nobody_waits_for_the_answer() {
    let site = Site::start().await;
    site.user("anna", Role::Reader).await;
    let (host, request) = sign_in(&site, PASSWORD).await;
    for round in 1..=20 {
        ask_and_leave(&host, &request).await;
        let began = Instant::now();
        loop {
            let trail = site.store.trail_after(&Wanted::default(), 0).await.unwrap();
            let kept = trail.iter().filter(|e| e.action == "login").count();
            if kept == round {
                break;
            }
            assert!(began.elapsed() < SOON, "{kept} of {round} are in the trail");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
