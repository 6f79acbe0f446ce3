//! A destination's own message: hl7apy judges what a template of the documentation gives.

use firstread::hl7::Hl7Destination;
use firstread::hl7::outbound::{Mapping, template::NAMES};

use crate::outbound::{screened, sending_to, study};
use crate::peer::Python;
use crate::site::uid;

/// The template that the documentation shows.
fn documented() -> String {
    let page = include_str!("../../docs/integration.md");
    let from = page.split("template = '''\n").nth(1);
    let text = from.and_then(|rest| rest.split("'''").next());
    text.expect("docs/integration.md shows a template")
        .to_owned()
}

#[tokio::test]
async fn the_documented_template_is_valid_and_says_what_is_known() {
    let Some(mut peer) = Python::start(&["serve"]) else {
        return;
    };
    let port = peer.line()["port"].clone();
    let destination = Hl7Destination {
        application: "RIS".into(),
        mapping: Mapping::Template,
        template: documented(),
        only_moving_up: true,
        ..Hl7Destination::new("own", &format!("127.0.0.1:{port}"))
    };
    let (site, outbox) = sending_to(&crate::common::Database::Sqlite, vec![destination]).await;
    let (urgent, quiet) = (study(&site, 1).await, study(&site, 2).await);
    screened(&site, &quiet, 0.02).await;
    assert!(
        !outbox.deliver_next("own").await.unwrap(),
        "it does not move up"
    );
    screened(&site, &urgent, 0.999).await;
    assert!(outbox.deliver_next("own").await.unwrap());
    let said = peer.line();
    assert!(said["invalid"].is_null(), "{said}");
    let text = said["text"].as_str().unwrap();
    let line = |start: &str| {
        let found = text.split('\r').find(|l| l.contains(start));
        found.unwrap_or_else(|| panic!("no {start} in {text}"))
    };
    assert!(line("MSH").contains("|RIS|"), "{text}");
    assert!(line("PID").contains("Müller^Zoë"), "{text}");
    assert!(
        line("VOL-LEFT-HIPPOCAMPUS").ends_with("|12346|mm3|9876-15000|L|||P"),
        "{text}"
    );
    assert!(line("ST|BAND").ends_with("|urgent||||||P"), "{text}");
    assert!(text.contains(firstread::RESEARCH_USE));
    assert!(text.contains(&uid(1)));
    assert!(!text.contains("{{"), "{text}");
    let numbers: Vec<&str> = text
        .split('\r')
        .filter_map(|l| l.strip_prefix("OBX|")?.split('|').next())
        .collect();
    let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn every_name_is_documented() {
    let statement = crate::conformance::STATEMENT;
    for name in NAMES {
        let written = format!("`{{{{{name}}}}}`");
        assert!(statement.contains(&written), "{written} is not documented");
    }
}
