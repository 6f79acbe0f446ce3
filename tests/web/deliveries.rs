//! `/deliveries` and the page behind a link, as people use them.

use firstread::clock::Clock;
use firstread::outbox::machine::Outcome;
use firstread::outbox::{Attempt, OutboxSettings};
use firstread::store::accounts::Role;
use firstread::store::outbox::{Batch, Claim};
use reqwest::{Client, StatusCode};

use crate::site::{Site, browser, field, uid};

/// Claims the next delivery to the room.
async fn claimed(site: &Site) -> Batch {
    let limits = OutboxSettings::default().retry_limits();
    let (now_ms, storm) = (site.clock.now_ms(), &site.alerts.storm);
    let claim = site.store.claim_delivery("room", now_ms, &limits, storm);
    match claim.await {
        Ok(Claim::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// Claims the next delivery to the room and says what came of it.
async fn attempt(site: &Site, outcome: &Outcome) -> Batch {
    let names = ["room".to_owned(), "pager".to_owned()];
    site.store.know_destinations(&names).await.unwrap();
    let limits = OutboxSettings::default().retry_limits();
    let (now_ms, batch) = (site.clock.now_ms(), claimed(site).await);
    let tried = Attempt {
        message: Some("Urgent study waits: place 1, K7QF".into()),
        ..outcome.clone().into()
    };
    let settled = site
        .store
        .settle_delivery(&batch, &tried, now_ms, &limits, 0.0);
    settled.await.unwrap();
    batch
}

async fn press(site: &Site, client: &Client, path: &str, csrf: &str, action: &str) -> StatusCode {
    let form = [("csrf", csrf), ("action", action)];
    let answer = client
        .post(site.url(path))
        .form(&form)
        .send()
        .await
        .unwrap();
    answer.status()
}

#[tokio::test]
async fn an_administrator_sees_and_steers_deliveries() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let refused = Outcome::Never("550 no such <user>".into());
    let batch = attempt(&site, &refused).await;
    let admin = site.signed_in(Role::Admin).await;
    let page = site.page(&admin, "/deliveries").await;
    for word in [
        "mail to room@hospital.example",
        "Failing",
        "Given up",
        "550 no such &#60;user&#62;",
        &format!("/studies/{}", uid(1)),
    ] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    assert!(
        !page.contains("Family1") && !page.contains("PAT-1"),
        "no name, no number"
    );
    let csrf = field(&page, "csrf");
    let path = format!("/deliveries/{}", batch.id);
    let pressed = async |csrf: &str, action: &str| press(&site, &admin, &path, csrf, action).await;
    assert_eq!(pressed("wrong", "resend").await, StatusCode::FORBIDDEN);
    assert_eq!(pressed(&csrf, "delete").await, StatusCode::BAD_REQUEST);
    assert_eq!(pressed(&csrf, "resend").await, StatusCode::SEE_OTHER);
    attempt(&site, &Outcome::Delivered).await;
    assert_eq!(
        pressed(&csrf, "resend").await,
        StatusCode::CONFLICT,
        "it arrived"
    );

    let room = async |action: &str| press(&site, &admin, "/destinations/room", &csrf, action).await;
    assert_eq!(room("pause").await, StatusCode::SEE_OTHER);
    assert!(site.page(&admin, "/deliveries").await.contains("by admin"));
    assert_eq!(room("resume").await, StatusCode::SEE_OTHER);
    assert_eq!(room("test").await, StatusCode::SEE_OTHER);
    let page = site.page(&admin, "/deliveries").await;
    assert!(
        page.contains("Test message") && page.contains("Waits its turn"),
        "{page}"
    );
    let nobody = press(&site, &admin, "/destinations/nobody", &csrf, "test").await;
    assert_eq!(nobody, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_message_is_shown_and_each_look_is_kept() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let batch = attempt(&site, &Outcome::Delivered).await;
    let admin = site.signed_in(Role::Admin).await;
    let auditor = site.signed_in(Role::Auditor).await;
    let path = format!("/deliveries/{}", batch.id);
    let page = site.page(&admin, &path).await;
    assert!(page.contains("Urgent study waits: place 1, K7QF"), "{page}");
    assert!(!page.contains("Show everything"), "an alert hides nothing");
    site.page(&auditor, &path).await;
    let views = site.store.message_views(batch.id).await.unwrap();
    let seen: Vec<(&str, bool)> = views
        .iter()
        .map(|v| (v.who.as_str(), v.uncovered))
        .collect();
    assert_eq!(seen, [("auditor", false), ("admin", false)]);
    let csrf = field(&site.page(&auditor, "/deliveries").await, "csrf");
    let shown = format!("{path}/message");
    assert_eq!(
        press(&site, &auditor, &shown, "wrong", "").await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        press(&site, &auditor, &shown, &csrf, "").await,
        StatusCode::OK
    );
    let views = site.store.message_views(batch.id).await.unwrap();
    assert!(views.len() == 3 && views[0].uncovered);
    let absent = auditor.get(site.url("/deliveries/999")).send().await;
    assert_eq!(absent.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_destination_answered_is_on_the_page_of_its_delivery_alone() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let limits = OutboxSettings::default().retry_limits();
    let names = ["room".to_owned(), "pager".to_owned()];
    site.store.know_destinations(&names).await.unwrap();
    let settle = async |attempt: Attempt| {
        let (now_ms, batch) = (site.clock.now_ms(), claimed(&site).await);
        let settled = site
            .store
            .settle_delivery(&batch, &attempt, now_ms, &limits, 0.0);
        settled.await.unwrap();
        site.clock.advance_ms(60_000);
        batch.id
    };
    let words = format!("no such <user>{}", "x".repeat(1000));
    let refused = Attempt::from(Outcome::Later("SMTP 450".into())).with_answer(&words);
    let id = settle(refused).await;
    let admin = site.signed_in(Role::Admin).await;
    let list = site.page(&admin, "/deliveries").await;
    assert!(
        list.contains("SMTP 450") && !list.contains("no such"),
        "{list}"
    );
    let path = format!("/deliveries/{id}");
    let page = site.page(&admin, &path).await;
    assert!(page.contains("no such &#60;user&#62;xxx"), "{page}");
    assert!(!page.contains(&"x".repeat(400)), "bounded");
    assert!(!page.contains("Show everything"), "an alert hides nothing");
    // one that says nothing, or takes it, leaves no word of an earlier attempt
    settle(Outcome::Later("did not answer".into()).into()).await;
    assert!(!site.page(&admin, &path).await.contains("no such"));
}

#[tokio::test]
async fn the_budget_counts_what_thresholds_would_have_sent() {
    let site = Site::start().await;
    for n in 1..=12 {
        let study = site.study(n, 12, 5.0).await;
        if n <= 3 {
            site.flag(&study, n == 1).await;
        }
    }
    let reader = site.signed_in(Role::Reader).await;
    let page = site.page(&reader, "/alerts").await;
    let text = page.replace("<td class=\"num\">", "|").replace("</td>", "");
    assert!(page.contains("3 screened studies on 1 day."), "{page}");
    // 181 minutes: all three up to 180, and beyond it only the critical one.
    assert!(text.contains("|170|0.465|3|3.0|3|0"), "{text}");
    assert!(text.contains("|190||1|1.0|1|0"), "{text}");
    for bad in [
        "/alerts?days=0",
        "/alerts?days=x",
        "/alerts?days=9999999999999999999",
    ] {
        let answer = reader.get(site.url(bad)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn an_auditor_looks_and_the_study_page_says_who_was_told() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, true).await;
    attempt(&site, &Outcome::Delivered).await;
    let auditor = site.signed_in(Role::Auditor).await;
    let page = site.page(&auditor, "/deliveries").await;
    assert!(page.contains("Delivered 12:00") && !page.contains("<button class=\"quiet\" name"));
    let page = site.page(&auditor, &format!("/studies/{}", uid(1))).await;
    let told = page.split("Who was told").nth(1).unwrap();
    assert!(told.contains("room") && told.contains("Critical"), "{told}");
}

#[tokio::test]
async fn a_reader_acknowledges_on_the_page_of_the_study() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, true).await;
    let reader = site.signed_in(Role::Reader).await;
    let path = format!("/studies/{}", uid(1));
    let page = site.page(&reader, &path).await;
    assert!(page.contains("nobody else is alerted then"), "{page}");
    let csrf = field(&page, "csrf");
    let pressed = format!("{path}/acknowledge");
    assert_eq!(
        press(&site, &reader, &pressed, "wrong", "").await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        press(&site, &reader, &pressed, &csrf, "").await,
        StatusCode::SEE_OTHER
    );
    let told = site.store.deliveries_of(&uid(1)).await.unwrap();
    assert_eq!(told[0].acknowledged_by.as_deref(), Some("reader"));
    let page = site.page(&reader, &path).await;
    assert!(!page.contains("nobody else is alerted then"));
    let absent = "/studies/1.2.3/acknowledge";
    assert_eq!(
        press(&site, &reader, absent, &csrf, "").await,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_page_warns_when_alerts_do_not_arrive() {
    let site = Site::start().await;
    let admin = site.signed_in(Role::Admin).await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let batch = attempt(&site, &Outcome::Never("no".into())).await;
    let csrf = field(&site.page(&admin, "/deliveries").await, "csrf");
    press(&site, &admin, "/destinations/pager", &csrf, "test").await;
    assert!(
        site.page(&admin, "/worklist")
            .await
            .contains("Alerts do not reach 1 destination")
    );
    let path = format!("/deliveries/{}", batch.id);
    // What gets results is no alert: administrators are told, readers are not.
    site.health
        .failing_destinations
        .set(vec!["ris".into(), "room".into(), "fhir:1".into()]);
    let page = site.page(&admin, "/worklist").await;
    assert!(page.contains("Alerts do not reach 1 destination"), "{page}");
    assert!(page.contains("do not reach ris, fhir:1"), "{page}");
    let reader = site.signed_in(Role::Reader).await;
    let page = site.page(&reader, "/worklist").await;
    assert!(page.contains("Alerts do not reach 1 destination"), "{page}");
    assert!(!page.contains("Results and notifications"), "{page}");
    // Skipped: nobody expects it any more. One failure alone may be chance.
    assert_eq!(
        press(&site, &admin, &path, &csrf, "skip").await,
        StatusCode::SEE_OTHER
    );
    assert!(
        !site
            .page(&admin, "/worklist")
            .await
            .contains("Alerts do not reach")
    );
}

#[tokio::test]
async fn a_link_shows_by_get_and_acknowledges_by_post_until_it_is_old() {
    let site = Site::start().await;
    let study = site.study(1, 12, 5.0).await;
    site.flag(&study, false).await;
    let batch = attempt(&site, &Outcome::Delivered).await;
    let path = format!("/a/{}", site.alerts.links.token(batch.id));
    let stranger = browser();
    let page = site.page(&stranger, &path).await;
    assert!(
        page.contains("waits for someone") && page.contains("Urgent"),
        "{page}"
    );
    let linked = async || site.store.linked(batch.id).await.unwrap().unwrap();
    assert_eq!(linked().await.alerts[0].acknowledged, None);
    let form = [("name", "<b>Dr</b>")];
    let answer = stranger
        .post(site.url(&path))
        .form(&form)
        .send()
        .await
        .unwrap();
    let page = answer.text().await.unwrap();
    assert!(
        page.contains("&#60;b&#62;Dr&#60;/b&#62; (link to room)"),
        "{page}"
    );
    assert!(linked().await.alerts[0].acknowledged.is_some());
    assert!(page.contains("nothing left to acknowledge"));

    for bad in [
        "/a/1.x",
        "/a/x",
        &format!("/a/{}", site.alerts.links.token(999)),
    ] {
        let answer = stranger.get(site.url(bad)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{bad}");
    }
    site.clock.advance_ms(site.alerts.link_valid_ms + 1);
    let answer = stranger.get(site.url(&path)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
