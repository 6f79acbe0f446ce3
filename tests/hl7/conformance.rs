//! `docs/conformance-hl7.md` says what the program does.

use firstread::hl7::Hl7Settings;
use firstread::hl7::inbound::{self, KINDS};
use firstread::hl7::message::{FaultCode, parse};
use firstread::hl7::outbound::Mapping;
use firstread::worklist::ris::Deed;

pub const STATEMENT: &str = include_str!("../../docs/conformance-hl7.md");

/// Rows of the table whose head begins with these cells.
fn table(head: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_matches('|');
        inner
            .split('|')
            .map(|c| c.trim().trim_matches('`').to_owned())
            .collect()
    };
    let mut lines = STATEMENT.lines().skip_while(|line| {
        let found = cells(line);
        !(line.starts_with('|')
            && found.iter().zip(head).all(|(a, b)| a == b)
            && found.len() >= head.len())
    });
    assert!(lines.next().is_some(), "no table {head:?}");
    lines
        .skip(1)
        .take_while(|l| l.starts_with('|'))
        .map(cells)
        .collect()
}

#[test]
fn messages_that_are_taken_are_listed() {
    let listed: Vec<(String, String)> = table(&["message", "kind"])
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let taken: Vec<(String, String)> = KINDS
        .iter()
        .map(|(message, kind)| ((*message).to_owned(), (*kind).to_owned()))
        .collect();
    assert_eq!(listed, taken);
}

#[test]
fn priorities_are_as_listed() {
    let rows = table(&["code", "priority"]);
    assert_eq!(rows.len(), 6);
    for row in rows {
        let text = format!(
            "MSH|^~\\&|RIS|||||| ORM^O01|1|P|2.5\rPID|||1\rORC|NW||F1\rTQ1|1||||||||{}\rOBR|1\r",
            row[0]
        );
        let message = parse(text.replace("| ORM", "|ORM").as_bytes()).unwrap();
        let (deed, warnings) = inbound::read(&message, &Hl7Settings::default()).unwrap();
        let Deed::Orders(orders) = deed else {
            panic!("{deed:?}");
        };
        assert_eq!(orders[0].priority.unwrap().as_str(), row[1], "{row:?}");
        assert_eq!(warnings, []);
    }
}

#[test]
fn codes_of_errors_and_mappings_are_listed() {
    let listed = table(&["ERR-3"]);
    let all = [
        FaultCode::SegmentSequence,
        FaultCode::RequiredFieldMissing,
        FaultCode::DataType,
        FaultCode::TableValueNotFound,
        FaultCode::UnsupportedMessageType,
        FaultCode::UnsupportedVersion,
        FaultCode::DuplicateKey,
        FaultCode::Internal,
    ];
    let coded: Vec<Vec<String>> = all
        .iter()
        .map(|code| {
            let (code, text) = code.as_coded();
            vec![code.to_owned(), text.to_owned()]
        })
        .collect();
    assert_eq!(listed, coded);
    let mappings: Vec<String> = table(&["mapping"])
        .into_iter()
        .map(|r| r[0].clone())
        .collect();
    assert_eq!(mappings, Mapping::ALL.map(Mapping::as_str));
}

#[test]
fn settings_are_named_as_they_are() {
    let settings = serde_json::to_value(Hl7Settings::default()).unwrap();
    let words = STATEMENT.split('`').skip(1).step_by(2);
    for key in words.filter_map(|word| word.strip_prefix("hl7.")) {
        assert!(settings.get(key).is_some(), "hl7.{key} is no setting");
    }
    let accession: Vec<&str> = settings["accession"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    assert!(STATEMENT.contains(&accession.join(", ")));
}

/// Every observation of a message is in the table, under its type.
pub fn check_observations(message: &str) {
    let rows = table(&["OBX-3", "OBX-2"]);
    for line in message.split('\r').filter(|l| l.starts_with("OBX")) {
        let fields: Vec<&str> = line.split('|').collect();
        let code = fields[3].split('^').next().unwrap();
        let known = rows.iter().find(|row| {
            let listed = row[0].split(['`', ' ']).next().unwrap();
            listed == code
                || listed
                    .strip_suffix('…')
                    .is_some_and(|start| code.starts_with(start))
        });
        let known = known.unwrap_or_else(|| panic!("{code} is not in the statement"));
        assert_eq!(known[1], fields[2], "{code}");
    }
}
