//! With scripts in every text that came over the wire, a real browser runs none of them, and the policy that would
//! stop one has nothing to stop.

use serde_json::json;

use crate::Browser;
use crate::marked::{Hospital, Visitor, encoded, mark};

/// Runs before anything of a page: what a marker would call, and what the browser says of the page's policy.
const WATCH: &str = "window.hits = []; window.hit = () => window.hits.push(location.pathname); \
    window.violations = []; document.addEventListener('securitypolicyviolation', \
    e => window.violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + (e.sourceFile || '')));";

async fn watch(browser: &Browser) {
    let wanted = json!({
        "cmd": "Page.addScriptToEvaluateOnNewDocument",
        "params": { "source": WATCH },
    });
    let session = browser.driver.session_id().to_string();
    let url = format!("{}/session/{session}/goog/cdp/execute", browser.address);
    let answer = reqwest::Client::new().post(url).json(&wanted).send().await;
    assert!(answer.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_a_sender_runs_in_a_browser() {
    let Some(browser) = Browser::open().await else {
        return;
    };
    let hospital = Hospital::open().await;
    let visitor = Visitor::sign_in(&hospital.server).await;
    hospital.order();
    hospital.write(&visitor).await;
    hospital.wait_for_refusal(&visitor).await;
    watch(&browser).await;
    let driver = &browser.driver;
    let open = async |path: &str| driver.goto(hospital.url(path)).await.unwrap();
    open("/login").await;
    for (id, text) in [("name", "admin"), ("password", "a long test password\n")] {
        let field = driver.find(thirtyfour::By::Id(id)).await.unwrap();
        field.send_keys(text).await.unwrap();
    }
    browser
        .until("return location.pathname === '/worklist'")
        .await;

    // The watch sees what it is to see: an inline script of a page is stopped by its policy.
    browser
        .js("const s = document.createElement('script'); s.textContent = 'hit()'; document.body.append(s)")
        .await;
    browser.until("return window.violations.length === 1").await;
    assert_eq!(browser.js("return window.hits.length").await, json!(0));

    let text = encoded(&mark("b00100020"));
    let (study, other) = (&hospital.study, &hospital.other);
    let mut shown = 0;
    for path in [
        "/worklist".to_owned(),
        format!("/worklist?q={text}"),
        format!("/studies/{study}"),
        format!("/studies/{other}"),
        format!("/studies/{study}/report"),
        "/intake".to_owned(),
        "/deliveries/1".to_owned(),
        format!("/destinations/ris/preview?study={study}"),
        format!("/trail/patient?patient={text}"),
        format!("/login?next={text}"),
    ] {
        open(&path).await;
        // what the page loads by itself is there too
        browser
            .until("return document.readyState === 'complete'")
            .await;
        let seen = browser.js("return [window.hits, window.violations]").await;
        assert_eq!(seen, json!([[], []]), "{path}");
        let made = "return document.querySelectorAll('b[zq], body script:not([src])').length \
            + [...document.querySelectorAll('b')].filter(b => [...b.attributes].some(a => a.name.startsWith('zq'))).length";
        assert_eq!(browser.js(made).await, json!(0), "{path}");
        let text = browser
            .js("return document.body.textContent.includes('<script>hit()</script>')")
            .await;
        shown += u32::from(text == json!(true));
    }
    assert!(shown >= 6, "only {shown} pages show a text of a sender");

    // The list that renews itself puts its rows in anew.
    open("/worklist").await;
    browser.until("return performance.getEntriesByType('resource').some(e => e.name.includes('fragment=1'))").await;
    hospital.rename();
    browser
        .until("return document.body.textContent.includes('zqadtpid5c1')")
        .await;
    let seen = browser.js("return [window.hits, window.violations]").await;
    assert_eq!(seen, json!([[], []]));
    browser.close().await;
}
