//! Live updates, probes, limits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use firstread::store::accounts::Role;
use firstread::web::WebSettings;
use reqwest::{Client, Response, StatusCode};

use crate::common::Database;
use crate::site::{Site, uid};

/// Reads until the stream has said this.
async fn hear(stream: &mut Response, what: &str) -> String {
    let mut heard = String::new();
    let listening = async {
        while !heard.contains(what) {
            let chunk = stream.chunk().await.unwrap().unwrap();
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(Duration::from_secs(5), listening)
        .await
        .unwrap();
    heard
}

#[tokio::test]
async fn a_change_is_told_within_a_second() {
    let site = Site::start().await;
    let reader = site.signed_in(Role::Reader).await;
    let mut events = reader.get(site.url("/events")).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    hear(&mut events, "event: hello").await;
    let started = std::time::Instant::now();
    site.news.tell(&uid(1));
    site.news.tell(&uid(2));
    site.news.tell(&uid(1));
    let heard = hear(&mut events, "\n\n").await;
    assert!(started.elapsed() < Duration::from_secs(1));
    let expected = format!(
        "event: studies\ndata: {{\"study_uids\":[\"{}\",\"{}\"]}}\n\n",
        uid(1),
        uid(2)
    );
    assert_eq!(heard, expected);
    for n in 0..1000 {
        site.news.tell(&uid(n));
    }
    hear(&mut events, "event: everything").await;
}

#[tokio::test]
async fn listeners_are_bounded_and_their_places_come_back() {
    let settings = WebSettings {
        live_listeners_max: 1,
        ..WebSettings::default()
    };
    let site = Site::with(&Database::Sqlite, settings).await;
    let reader = site.signed_in(Role::Reader).await;
    let mut first = reader.get(site.url("/events")).send().await.unwrap();
    hear(&mut first, "hello").await;
    let second = reader.get(site.url("/events")).send().await.unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(second.headers()["retry-after"], "30");
    drop(first);
    // the server sees that a browser is gone when it next speaks to it
    for _ in 0..50 {
        site.news.tell(&uid(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        if reader
            .get(site.url("/events"))
            .send()
            .await
            .unwrap()
            .status()
            == StatusCode::OK
        {
            return;
        }
    }
    panic!("the place did not come back");
}

#[tokio::test]
async fn probes_say_how_it_is() {
    let site = Site::start().await;
    site.study(1, 10, 5.0).await;
    let get = async |path: &str| Client::new().get(site.url(path)).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    let not_yet = get("/readyz").await;
    assert_eq!(not_yet.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(not_yet.text().await.unwrap().contains("starting"));
    site.health.set_ready();
    assert_eq!(get("/readyz").await.status(), StatusCode::OK);
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("firstread_open_studies{state=\"screened\"} 1"));
    assert!(metrics.contains("firstread_jobs_waiting 0"));
}

#[tokio::test]
async fn a_slow_client_is_cut_off_and_others_are_served() {
    let settings = WebSettings {
        header_timeout_seconds: 1,
        request_timeout_seconds: 1,
        ..WebSettings::default()
    };
    let site = Site::with(&Database::Sqlite, settings).await;
    let address = site.base.trim_start_matches("http://").to_owned();
    let slow: Vec<TcpStream> = ["GET /worklist HTTP/1.1\r\nHost: x\r\n", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\nname="]
        .iter()
        .map(|head| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        })
        .collect();
    let quick = Client::new()
        .get(site.url("/healthz"))
        .send()
        .await
        .unwrap();
    assert_eq!(quick.status(), StatusCode::OK);
    let cut_off = tokio::task::spawn_blocking(move || {
        slow.into_iter()
            .map(|mut stream| {
                let mut answer = [0; 64];
                let n = stream.read(&mut answer).unwrap();
                String::from_utf8_lossy(&answer[..n]).into_owned()
            })
            .collect::<Vec<_>>()
    });
    for answer in cut_off.await.unwrap() {
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
}
