//! A real browser: sign in, the list changes under the reader's hands, the study page shows itself.

#![allow(
    clippy::unwrap_used,
    clippy::zombie_processes,
    reason = "a test fails where it stands; children are killed on drop"
)]

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firstread::store::accounts::Role;
use serde_json::json;
use thirtyfour::prelude::*;

mod common;
#[path = "web/compared.rs"]
mod compared;
#[path = "browser/keys.rs"]
mod keys;
#[allow(dead_code, reason = "others use the rest")]
#[path = "owasp/marked.rs"]
mod marked;
#[path = "browser/notify.rs"]
mod notify;
#[path = "browser/pages.rs"]
mod pages;
#[path = "browser/report.rs"]
mod report;
#[path = "browser/scripts.rs"]
mod scripts;
#[path = "web/site.rs"]
mod site;

use site::{PASSWORD, Site, uid};

const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

struct Browser {
    driver: WebDriver,
    /// Of chromedriver.
    address: String,
    process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None`, with a printed word, where there is no browser.
    async fn open() -> Option<Self> {
        if !Path::new(CHROMEDRIVER).exists() || !Path::new(CHROMIUM).exists() {
            eprintln!(
                "skipped: no {CHROMEDRIVER} or no {CHROMIUM}; scripts/setup --tests installs them"
            );
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(CHROMEDRIVER)
            .arg(format!("--port={port}"))
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(CHROMIUM).unwrap();
        for flag in FLAGS {
            wanted.add_arg(flag).unwrap();
        }
        wanted
            .add_arg(&format!("--user-data-dir={}", profile.path().display()))
            .unwrap();
        wanted.add_arg("--window-size=1280,500").unwrap();
        // As a reader who allowed them: nobody is there to answer the question.
        let allowed = json!({ "profile.default_content_setting_values.notifications": 1 });
        wanted.add_experimental_option("prefs", allowed).unwrap();
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let address = format!("http://127.0.0.1:{port}");
            if let Ok(driver) = WebDriver::new(&address, wanted.clone()).await {
                return Some(Self {
                    driver,
                    address,
                    process,
                    _profile: profile,
                });
            }
        }
        panic!("chromedriver did not answer");
    }

    /// Opens a page of the site, and signs in on the way.
    async fn sign_in(&self, site: &Site, name: &str, path: &str) {
        self.driver.goto(site.url(path)).await.unwrap();
        let field = self.driver.find(By::Id("name")).await.unwrap();
        field.send_keys(name).await.unwrap();
        let password = self.driver.find(By::Id("password")).await.unwrap();
        password.send_keys(format!("{PASSWORD}\n")).await.unwrap();
        let there = path.split('?').next().unwrap_or(path);
        self.until(&format!("return location.pathname === '{there}'"))
            .await;
    }

    async fn close(self) {
        let _ = self.driver.clone().quit().await;
    }

    async fn js(&self, script: &str) -> serde_json::Value {
        self.driver
            .execute(script, vec![])
            .await
            .unwrap()
            .json()
            .clone()
    }

    async fn until(&self, script: &str) {
        for _ in 0..50 {
            if self.js(script).await == json!(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let page = self.driver.source().await.unwrap();
        panic!("never came true: {script}\n{page}");
    }
}

impl Drop for Browser {
    /// Also when a test fails: chromedriver and the browsers it started are one group of processes.
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// UID of the row that has the focus, and how far it is from the top of the window.
const IN_HAND: &str = "const r = document.activeElement.closest('tr'); \
    return r ? [r.dataset.uid, Math.round(r.getBoundingClientRect().top)] : null";

#[tokio::test]
async fn the_list_moves_around_the_readers_hand() {
    let Some(browser) = Browser::open().await else {
        return;
    };
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    for n in 1..=30 {
        site.study(n, 100 - i64::from(n), 10.0).await;
    }
    let driver = &browser.driver;
    browser.sign_in(&site, "reader", "/worklist").await;
    browser
        .until("return document.querySelectorAll('#rows tr').length === 30")
        .await;
    browser.until("return performance.getEntriesByType('resource').some(e => e.name.includes('fragment=1'))").await;

    // by keyboard to the twelfth row, which is below the fold
    let body = driver.find(By::Tag("body")).await.unwrap();
    body.send_keys("j".repeat(12)).await.unwrap();
    let before = browser.js(IN_HAND).await;
    assert_eq!(before[0], uid(12));
    assert!(browser.js("return scrollY > 100").await == json!(true));
    browser.js("window.marked = document.activeElement").await;

    // three studies come in above it, one below
    for n in 31..=33 {
        site.study(n, 200, 60.0).await;
        site.news.tell(&uid(n));
    }
    site.study(34, 1, 0.0).await;
    site.news.tell(&uid(34));
    browser
        .until("return document.querySelectorAll('#rows tr').length === 34")
        .await;
    let after = browser.js(IN_HAND).await;
    assert_eq!(after[0], before[0]);
    // a pixel or so: rows have fractions of one, windows scroll by whole ones
    let moved = after[1].as_i64().unwrap() - before[1].as_i64().unwrap();
    assert!(moved.abs() <= 2, "the row in hand moved by {moved} px");
    assert_eq!(
        browser
            .js("return window.marked === document.activeElement")
            .await,
        json!(true)
    );
    browser.until("return document.getElementById('above').textContent === '3 new above' && !document.getElementById('above').hidden").await;
    let order = browser.js("return [...document.querySelectorAll('#rows .c-rank')].slice(0, 34).map(c => Number(c.textContent))").await;
    assert_eq!(order, json!((1..=34).collect::<Vec<_>>()));

    // the waiting time goes on, the focused row opens with Enter
    let link = driver.find(By::Css("#rows a.open:focus")).await.unwrap();
    link.send_keys("\u{E007}").await.unwrap();
    browser
        .until("return location.pathname.startsWith('/studies/')")
        .await;
    let title = driver.title().await.unwrap();
    assert!(title.starts_with("Family12, Given"), "{title}");
    let text = body_text(driver).await;
    assert!(text.contains("Why it stands here") && text.contains(firstread::RESEARCH_USE));
    browser.close().await;
}

#[tokio::test]
async fn an_overlay_can_be_taken_away_and_scripts_stay_text() {
    let Some(browser) = Browser::open().await else {
        return;
    };
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    let study = site
        .study_with(1, 10, 5.0, |row| {
            let name = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
            row.patient_name = sea_orm::ActiveValue::Set(Some(name.into()));
        })
        .await;
    site.series_with(&study, |_| {}).await;
    site.screening_with(&study, |row| {
        row.result_json = sea_orm::ActiveValue::Set(
            "{\"contrast\":\"T1\",\"p_logit\":null,\"p_calibrated\":null,\"prevalence_train\":null,\"head_logit\":null,\"findings\":[],\"focus_mm\":null,\"volumes\":[],\"pictures\":[\"axial\"],\"timings_ms\":{}}".into(),
        );
    })
    .await;
    let driver = &browser.driver;
    let page = format!("/studies/{}", uid(1));
    browser.sign_in(&site, "reader", &page).await;
    let seen = "return getComputedStyle(document.querySelector('img.over')).visibility";
    assert_eq!(browser.js(seen).await, json!("visible"));
    driver
        .find(By::Css("input.overlay"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(browser.js(seen).await, json!("hidden"));
    assert!(!driver.title().await.unwrap().starts_with("owned"));
    assert_eq!(
        browser
            .js("return document.querySelectorAll('h1 script, h1 img').length")
            .await,
        json!(0)
    );
    browser.close().await;
}

async fn body_text(driver: &WebDriver) -> String {
    driver
        .find(By::Tag("body"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}
