//! Destinations as an administrator meets them: made, changed, removed, previewed.

use firstread::store::accounts::Role;
use reqwest::{Client, StatusCode};
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::site::{Site, field, uid};

async fn fill(site: &Site, person: &Client, name: &str, with: &[(&str, &str)]) -> (u16, String) {
    let path = format!("/destinations/{name}/form");
    let query = if name == "new" { "?kind=mail" } else { "" };
    let page = site.page(person, &format!("{path}{query}")).await;
    let csrf = field(&page, "csrf");
    let mut form = vec![
        ("csrf", csrf.as_str()),
        ("action", "keep"),
        ("note", "why not"),
    ];
    form.retain(|(key, _)| with.iter().all(|(other, _)| other != key));
    form.extend(with);
    let answer = person
        .post(site.url(&path))
        .form(&form)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_destination_is_made_changed_and_removed_in_versions() {
    for database in databases() {
        let site = Site::on(&database).await;
        let admin = site.signed_in_as("root", Role::Admin).await;
        let secrets = site.data.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::write(secrets.join("hub"), "s3cret").unwrap();
        let hub = [
            ("kind", "webhook"),
            ("name", "hub"),
            ("to", "https://hub.example/?a=b&c"),
            ("preset", "json"),
            ("secret", "hub"),
        ];
        let (status, said) = fill(&site, &admin, "new", &hub).await;
        assert_eq!(status, 303, "{said}");
        let page = site.page(&admin, "/destinations").await;
        for word in [
            "page:hub",
            "webhook to https://hub.example/?a=b&#38;c",
            "why not",
            "by <bdi>root</bdi>",
            "HL7 (obx8) to 127.0.0.1:1",
            "read-only here",
        ] {
            assert!(page.contains(word), "{word} is not in {page}");
        }
        assert!(!page.contains("s3cret"));
        // what does not fit is said, and nothing is kept
        for (wrong, word) in [
            (vec![hub[0], hub[1], hub[2]], "already"),
            (vec![hub[0], ("name", "a b"), hub[2]], "letters"),
            (
                vec![hub[0], ("name", "x"), ("to", "http://hub.example/")],
                "TLS",
            ),
            (
                vec![hub[0], ("name", "x"), hub[2], ("secret", "../links.key")],
                "folder secrets",
            ),
            (
                vec![("kind", "mail"), ("name", "x"), ("to", "<b>")],
                "mail address",
            ),
        ] {
            let (status, said) = fill(&site, &admin, "new", &wrong).await;
            assert_eq!(status, 200, "{wrong:?}");
            assert!(said.contains(word), "{word} is not in {said}");
            assert!(!said.contains("<b>"), "escaped");
        }
        assert_eq!(site.store.made_versions().await.unwrap().len(), 1);
        let (status, _) = fill(
            &site,
            &admin,
            "page:hub",
            &[("kind", "webhook"), ("to", "https://other.example/")],
        )
        .await;
        assert_eq!(status, 303);
        let page = site.page(&admin, "/destinations").await;
        assert!(
            page.contains("to: https://other.example/; preset: none; secret: none"),
            "{page}"
        );
        let (status, _) = fill(&site, &admin, "page:hub", &[("action", "remove")]).await;
        assert_eq!(status, 303);
        assert!(site.store.made_destinations().await.unwrap().is_empty());
        let versions = site.store.made_versions().await.unwrap();
        assert_eq!(versions.len(), 3);
        assert!(versions[0].filled.is_none());
        let gone = admin
            .get(site.url("/destinations/page:hub/form"))
            .send()
            .await;
        assert_eq!(gone.unwrap().status(), StatusCode::NOT_FOUND);
        // those of the file are not changed here; an auditor only looks
        let fixed = admin.get(site.url("/destinations/ris/form")).send().await;
        assert_eq!(fixed.unwrap().status(), StatusCode::NOT_FOUND);
        let auditor = site.signed_in(Role::Auditor).await;
        let page = site.page(&auditor, "/destinations").await;
        assert!(!page.contains("Add:") && !page.contains("Send a test"));
        let form = auditor.get(site.url("/destinations/new/form")).send().await;
        assert_eq!(form.unwrap().status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_pacs_is_made_tested_and_paused() {
    for database in databases() {
        let site = Site::on(&database).await;
        let admin = site.signed_in_as("root", Role::Admin).await;
        let form = site.page(&admin, "/destinations/new/form?kind=dicom").await;
        for (name, checked) in [("seg", true), ("sr", true), ("pdf", true), ("sc", false)] {
            let field = format!("name=\"{name}\" value=\"yes\"");
            let checked = if checked { " checked" } else { "" };
            assert!(form.contains(&format!("{field}{checked}>")), "{form}");
        }
        for name in ["tls", "tls_name", "ca_file", "certificate_file", "key_file"] {
            assert!(form.contains(&format!("name=\"{name}\"")), "{form}");
        }
        let pacs = [
            ("kind", "dicom"),
            ("name", "pacs"),
            ("ae_title", "PACS"),
            ("host", "10.0.0.5"),
            ("port", "104"),
            ("sr", "yes"),
        ];
        let (status, said) = fill(&site, &admin, "new", &pacs).await;
        assert_eq!(status, 303, "{said}");
        let (status, said) = fill(&site, &admin, "new", &pacs[..5]).await;
        assert_eq!(status, 200);
        assert!(said.contains("already"), "{said}");
        let other = [&[("name", "other")], &pacs[2..5], &pacs[..1]].concat();
        let (_, said) = fill(&site, &admin, "new", &other).await;
        assert!(said.contains("at least one kind"), "{said}");
        let page = site.page(&admin, "/destinations").await;
        assert!(page.contains("DICOM to PACS at 10.0.0.5:104"), "{page}");
        assert!(!page.contains("Paused"), "{page}");
        let csrf = field(&page, "csrf");
        for (action, paused) in [("test", false), ("pause", true), ("resume", false)] {
            let form = [("csrf", csrf.as_str()), ("action", action)];
            let pressed = admin.post(site.url("/destinations/page:pacs")).form(&form);
            assert_eq!(
                pressed.send().await.unwrap().status(),
                StatusCode::SEE_OTHER
            );
            let page = site.page(&admin, "/destinations").await;
            assert_eq!(page.contains("Paused"), paused, "{action}");
        }
        let waiting = site.store.open_deliveries(10).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].destination, "page:pacs");
    }
}

#[tokio::test]
async fn whoever_is_told_in_quiet_hours_exists_and_stays() {
    let site = Site::start().await;
    let admin = site.signed_in_as("root", Role::Admin).await;
    let hours = ("quiet_hours", "22:00-06:00");
    let mail = |name: &'static str| [("kind", "mail"), ("name", name), ("to", "a@b.example")];
    let quiet = |name, instead| [&mail(name)[..], &[hours, ("quiet_instead", instead)]].concat();
    for (wrong, word) in [
        (quiet("night", "nobody"), "another destination"),
        (quiet("night", "page:night"), "another destination"),
        (quiet("night", "ris"), "another destination"),
        ([&mail("night")[..], &[hours]].concat(), "quiet_instead"),
        (
            [&mail("night")[..], &[("quiet_hours", "late")]].concat(),
            "quiet_hours",
        ),
    ] {
        let (status, said) = fill(&site, &admin, "new", &wrong).await;
        assert_eq!(status, 200, "{wrong:?}");
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert_eq!(fill(&site, &admin, "new", &mail("day")).await.0, 303);
    assert_eq!(
        fill(&site, &admin, "new", &quiet("night", "page:day"))
            .await
            .0,
        303
    );
    assert_eq!(
        fill(&site, &admin, "new", &quiet("late", "room")).await.0,
        303
    );
    let remove = [("action", "remove")];
    let (status, said) = fill(&site, &admin, "page:day", &remove).await;
    assert_eq!(status, 200);
    assert!(said.contains("page:night has it told"), "{said}");
    assert_eq!(fill(&site, &admin, "page:night", &remove).await.0, 303);
    assert_eq!(fill(&site, &admin, "page:day", &remove).await.0, 303);
}

#[tokio::test]
async fn a_preview_hides_the_patient_until_asked_and_each_look_is_kept() {
    for database in databases() {
        let site = Site::on(&database).await;
        let admin = site.signed_in_as("root", Role::Admin).await;
        let empty = site.page(&admin, "/destinations/ris/preview").await;
        assert!(empty.contains("There is no study yet"));
        site.study_with(1, 10, 5.0, |s| {
            s.patient_name = Set(Some("Doe^Jane".into()));
        })
        .await;
        site.study(2, 10, 50.0).await;
        let path = format!("/destinations/ris/preview?study={}", uid(1));
        let page = site.page(&admin, &path).await;
        assert!(
            page.contains("MSH|^~\\&amp;|") || page.contains("MSH|^~\\&#38;|"),
            "{page}"
        );
        assert!(page.contains("PID|...") && page.contains("OBX|"), "{page}");
        assert!(!page.contains("Doe") && !page.contains("PAT-1"), "{page}");
        assert!(page.contains("without the patient"));
        let csrf = field(&page, "csrf");
        let study = uid(1);
        let form = [("csrf", csrf.as_str()), ("study", &study)];
        let shown = admin
            .post(site.url("/destinations/ris/preview"))
            .form(&form);
        let shown = shown.send().await.unwrap().text().await.unwrap();
        assert!(
            shown.contains("Doe^Jane") && shown.contains("PAT-1"),
            "{shown}"
        );
        let views = site.store.preview_views("ris", &study).await.unwrap();
        let seen: Vec<(&str, bool)> = views
            .iter()
            .map(|v| (v.who.as_str(), v.uncovered))
            .collect();
        assert_eq!(seen, [("root", true), ("root", false)]);
        assert!(
            site.store.open_deliveries(10).await.unwrap().is_empty(),
            "nothing is sent"
        );
        let missing = admin
            .get(site.url("/destinations/none/preview"))
            .send()
            .await;
        assert_eq!(missing.unwrap().status(), StatusCode::NOT_FOUND);
    }
}
