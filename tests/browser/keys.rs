//! Two readers at once, by keyboard only: move, claim, open, disagree, read, undo, next, search.

use std::time::{Duration, Instant};

use firstread::clock::Clock;
use firstread::store::accounts::Role;
use firstread::worklist::Acting;
use serde_json::{Value, json};

use crate::site::{Site, uid};
use crate::{Browser, IN_HAND};

const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";

/// Types into what has the focus.
async fn press(browser: &Browser, keys: &str) {
    let focused = browser.driver.active_element().await.unwrap();
    focused.send_keys(keys).await.unwrap();
}

/// Who has a study in hand, as the list says it.
fn hand_of(n: u32) -> String {
    format!(
        "document.querySelector('tr[data-uid=\"{}\"] .c-hand bdi')?.textContent ?? ''",
        uid(n)
    )
}

async fn sees(browser: &Browser, n: u32, hand: &str) {
    browser
        .until(&format!("return ({}) === '{hand}'", hand_of(n)))
        .await;
}

async fn in_hand(browser: &Browser) -> Value {
    browser.js(IN_HAND).await[0].clone()
}

const LISTENS: &str =
    "return performance.getEntriesByType('resource').some(e => e.name.includes('fragment=1'))";
const COMPLAINT: &str =
    "const p = document.getElementById('problem'); return p.hidden ? '' : p.textContent";

#[tokio::test]
async fn two_readers_work_by_keyboard_only() {
    let (Some(anna), Some(bert)) = (Browser::open().await, Browser::open().await) else {
        return;
    };
    let site = Site::start().await;
    for n in 1..=12 {
        site.study(n, 100 - i64::from(n), 10.0).await;
    }
    for (browser, name) in [(&anna, "anna"), (&bert, "bert")] {
        site.user(name, Role::Reader).await;
        browser.sign_in(&site, name, "/worklist").await;
        browser.until(LISTENS).await;
    }

    a_claim_is_seen(&anna, &bert).await;
    a_study_is_read(&anna, &bert).await;
    the_next_one(&anna, &bert).await;
    searching(&anna).await;
    anna.close().await;
    bert.close().await;
}

async fn a_claim_is_seen(anna: &Browser, bert: &Browser) {
    // a key without a study in hand says so; a claim shows in the other browser within a second
    press(anna, "c").await;
    anna.until(
        "return document.getElementById('problem').textContent.startsWith('Choose a study')",
    )
    .await;
    press(bert, "jjj").await;
    bert.js("window.marked = document.activeElement").await;
    press(anna, "jj").await;
    assert_eq!(in_hand(anna).await, uid(2));
    let pressed = Instant::now();
    press(anna, "c").await;
    let told = format!("return ({}) === 'anna'", hand_of(2));
    while bert.js(&told).await != json!(true) {
        assert!(
            pressed.elapsed() < Duration::from_secs(1),
            "not told within 1 s"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!(
        "a claim showed in the other browser after {:?}",
        pressed.elapsed()
    );
    sees(anna, 2, "You").await;
    assert_eq!(
        bert.js("return window.marked === document.activeElement")
            .await,
        json!(true),
        "news stole the focus"
    );

    // what the other holds is neither claimed nor read
    press(bert, "k").await;
    for key in ["c", "m"] {
        bert.js("document.getElementById('problem').hidden = true")
            .await;
        press(bert, key).await;
        bert.until("return !document.getElementById('problem').hidden")
            .await;
        let said = bert.js(COMPLAINT).await;
        assert!(
            said.as_str()
                .unwrap()
                .starts_with("anna has this study in hand"),
            "{said}"
        );
    }
    assert_eq!(in_hand(bert).await, uid(2));
}

async fn a_study_is_read(anna: &Browser, bert: &Browser) {
    // open, disagree in one key, change one's mind
    press(anna, ENTER).await;
    anna.until("return document.getElementById('work')?.classList.contains('mine') ?? false")
        .await;
    let view = "return [...document.querySelectorAll('#findings button')].map(b => b.textContent + b.ariaPressed).join()";
    press(anna, "d").await;
    anna.until(&format!("{view} === 'Agreefalse,Disagreetrue'"))
        .await;
    press(anna, "a").await;
    anna.until(&format!("{view} === 'Agreetrue,Disagreefalse'"))
        .await;

    // mark read: gone from both lists, named in hers; undo: back in her hands and in focus
    press(anna, "m").await;
    anna.until("return location.pathname === '/worklist' && document.getElementById('undo')?.textContent.includes('Family2') === true")
        .await;
    bert.until(&format!(
        "return !document.querySelector('tr[data-uid=\"{}\"]')",
        uid(2)
    ))
    .await;
    assert_eq!(in_hand(bert).await, uid(3), "the next row is in hand");
    // what is said above the list leaves the rest of it alone
    anna.until(
        "return [...document.querySelectorAll('[data-keys]')].some(b => b.checkVisibility())",
    )
    .await;
    press(anna, "u").await;
    sees(anna, 2, "You").await;
    anna.until(&format!(
        "return document.activeElement.closest('tr')?.dataset.uid === '{}'",
        uid(2)
    ))
    .await;
    sees(bert, 2, "anna").await;
}

async fn the_next_one(anna: &Browser, bert: &Browser) {
    // the next case is the first that nobody has
    press(anna, "n").await;
    anna.until(&format!(
        "return location.pathname === '/studies/{}'",
        uid(1)
    ))
    .await;
    press(bert, "n").await;
    bert.until(&format!(
        "return location.pathname === '/studies/{}'",
        uid(3)
    ))
    .await;
    press(bert, "l").await;
    sees(bert, 1, "anna").await;

    // by mouse: the row stays in hand when its button goes
    let button = format!("tr[data-uid=\"{}\"] .c-hand button", uid(5));
    bert.js("document.activeElement.blur()").await;
    let button = bert.driver.find(thirtyfour::By::Css(button)).await.unwrap();
    button.click().await.unwrap();
    sees(bert, 5, "You").await;
    bert.until(&format!(
        "return document.activeElement.closest('tr')?.dataset.uid === '{}'",
        uid(5)
    ))
    .await;
    // release from the page of the study: free for all
    anna.until("return document.getElementById('work').classList.contains('mine')")
        .await;
    press(anna, "r").await;
    anna.until("return document.getElementById('work').classList.contains('free')")
        .await;
    sees(bert, 1, "").await;
}

async fn searching(anna: &Browser) {
    // search, from anywhere; the filter stays in the address; the keys are one key away
    press(anna, "/").await;
    anna.until("return document.activeElement.id === 'q'").await;
    press(anna, &format!("family7{ENTER}")).await;
    anna.until("return location.search.includes('q=family7') && document.querySelectorAll('#rows tr').length === 1")
        .await;
    press(anna, "j").await;
    press(anna, "?").await;
    anna.until("return document.getElementById('help').open")
        .await;
    press(anna, "m").await;
    press(anna, ESCAPE).await;
    anna.until("return !document.getElementById('help').open")
        .await;
    assert_eq!(
        in_hand(anna).await,
        uid(7),
        "keys do nothing under the help"
    );
    // the filters open and close with one key, and the first is in hand
    press(anna, "f").await;
    anna.until("return document.activeElement.id === 'f-state'")
        .await;
    press(anna, ESCAPE).await;
    press(anna, "f").await;
    anna.until("return !document.getElementById('filters').open")
        .await;
}

#[tokio::test]
async fn a_claim_that_runs_out_is_free_at_that_moment() {
    let Some(anna) = Browser::open().await else {
        return;
    };
    let site = Site::start().await;
    site.study(1, 60, 10.0).await;
    site.user("anna", Role::Reader).await;
    anna.sign_in(&site, "anna", "/worklist").await;
    anna.until(LISTENS).await;
    let now_ms = site.clock.now_ms();
    let bert = Acting {
        reader: "bert",
        now_ms,
        held_since_ms: now_ms - 1_800_000,
    };
    site.store.claim_study(&uid(1), bert).await.unwrap();
    // two seconds are left of it when the list looks
    site.clock.advance_ms(1_798_000);
    site.news.tell(&uid(1));
    sees(&anna, 1, "bert").await;
    // nobody tells what happens then
    site.clock.advance_ms(2_100);
    sees(&anna, 1, "").await;
    anna.close().await;
}
