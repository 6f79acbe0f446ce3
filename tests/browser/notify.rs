//! Notifications of an open list: of what becomes urgent and nobody has, without a word about the patient.

use firstread::clock::Clock;
use firstread::store::accounts::Role;
use firstread::worklist::Acting;
use serde_json::json;
use thirtyfour::prelude::*;

use crate::Browser;
use crate::site::{CLAIM_IDLE_MS, Site, uid};

/// Keeps what each notification is made of.
const WATCH: &str = "window.notes = []; window.Notification = new Proxy(window.Notification, \
    { construct(made, args) { window.notes.push(args); return new made(...args); } });";

#[tokio::test]
async fn an_open_list_tells_of_a_new_priority_case_and_names_nobody() {
    let Some(browser) = Browser::open().await else {
        return;
    };
    let site = Site::start().await;
    site.user("reader", Role::Reader).await;
    let before = site.study(1, 60, 5.0).await;
    site.flag(&before, false).await;
    browser.sign_in(&site, "reader", "/worklist").await;
    browser
        .until("return performance.getEntriesByType('resource').some(e => e.name.includes('fragment=1'))")
        .await;
    let button = browser.driver.find(By::Id("notify")).await.unwrap();
    assert_eq!(button.text().await.unwrap(), "Notify me");
    button.click().await.unwrap();
    browser
        .until("return document.getElementById('notify').textContent === 'Notifying'")
        .await;
    browser.js(WATCH).await;

    // A new urgent one, one that another reader has, a critical one.
    let arrives = async |n: u32, critical: bool, claimed: bool| {
        let study = site.study(n, 12, 5.0).await;
        if claimed {
            let now_ms = site.clock.now_ms();
            let acting = Acting {
                reader: "chen",
                now_ms,
                held_since_ms: now_ms - CLAIM_IDLE_MS,
            };
            site.store.claim_study(&uid(n), acting).await.unwrap();
        }
        site.flag(&study, critical).await;
        site.news.tell(&uid(n));
        browser
            .until(&format!(
                "return !!document.querySelector('tr[data-uid=\"{}\"] .chip.urgent, tr[data-uid=\"{}\"] .chip.critical')",
                uid(n),
                uid(n)
            ))
            .await;
    };
    arrives(2, false, false).await;
    browser.until("return window.notes.length === 1").await;
    arrives(3, false, true).await;
    arrives(4, true, false).await;
    browser.until("return window.notes.length === 2").await;
    let notes = browser.js("return window.notes").await;
    let title = |n: usize| notes[n][0].as_str().unwrap().to_owned();
    assert!(
        title(0).starts_with("Urgent study waits: place "),
        "{notes}"
    );
    assert!(
        title(1).starts_with("Critical study waits: place "),
        "{notes}"
    );
    assert_eq!(notes[0][1]["body"], firstread::RESEARCH_USE);
    let said = notes.to_string();
    for patient in ["Family", "Given", "PAT-", "ACC-"] {
        assert!(!said.contains(patient), "{said}");
    }
    // Told once, however often the list comes anew.
    site.news.tell(&uid(2));
    arrives(5, false, true).await;
    assert_eq!(browser.js("return window.notes.length").await, json!(2));
    browser.close().await;
}
