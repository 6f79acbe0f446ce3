//! What senders say in their ways, and what it means.

use super::*;
use crate::hl7::message::parse;
use crate::triage::OrderPriority;
use crate::worklist::ris::{FinalReport, Identifier, RisOrder};

fn settings() -> Hl7Settings {
    Hl7Settings::default()
}

fn message(kind: &str, rest: &str) -> Message {
    let text = format!("MSH|^~\\&|RIS|HOSP|FR||20261126||{kind}|1|P|2.5.1\r{rest}");
    parse(text.as_bytes()).unwrap()
}

fn orders(kind: &str, rest: &str) -> Vec<RisOrder> {
    match super::read(&message(kind, rest), &settings()).unwrap().0 {
        Deed::Orders(orders) => orders,
        other => panic!("{other:?}"),
    }
}

fn order(rest: &str) -> RisOrder {
    orders("ORM^O01", rest).remove(0)
}

#[track_caller]
fn check_fault(kind: &str, rest: &str, place: &str) {
    let fault = super::read(&message(kind, rest), &settings()).unwrap_err();
    assert_eq!(fault.at.to_string(), place, "{fault}");
}

fn id(id: &str, issuer: &str) -> Option<Identifier> {
    Identifier::new(id, Some(issuer))
}

const PID: &str = "PID|1||P1^^^HOSP^MR||Doe^Jane\r";

#[test]
fn priorities_stand_in_four_places() {
    let check = |rest: &str, expected: Option<OrderPriority>| {
        assert_eq!(order(&format!("{PID}{rest}")).priority, expected, "{rest}");
    };
    let (stat, asap, routine) = (
        Some(OrderPriority::Stat),
        Some(OrderPriority::Asap),
        Some(OrderPriority::Routine),
    );
    check("ORC|NW||F1\rTQ1|1||||||||S^Stat^HL70078\rOBR|1||F1", stat);
    check("ORC|NW||F1||||^^^^^A\rOBR|1||F1", asap);
    check("ORC|NW||F1\rOBR|1||F1||||||||||||||||||||||||^^^^^S", stat);
    check("ORC|NW||F1\rOBR|1||F1||P", asap);
    check("ORC|NW||F1\rOBR|1||F1||C", asap);
    check("ORC|NW||F1\rOBR|1||F1||T", routine);
    check("ORC|NW||F1\rOBR|1||F1||TH2", routine);
    check("ORC|NW||F1\rOBR|1||F1||R", routine);
    check("ORC|NW||F1\rOBR|1||F1||STAT", stat);
    check("ORC|NW||F1\rOBR|1||F1", None);
    // the first place that says something counts; of several the highest
    check(
        "ORC|NW||F1||||^^^^^S\rTQ1|1||||||||R\rOBR|1||F1||S",
        routine,
    );
    check(
        "ORC|NW||F1\rTQ1|1||||||||R\rTQ1|2||||||||S\rOBR|1||F1",
        stat,
    );
    check("ORC|NW||F1||||^^^^^R~^^^^^A\rOBR|1||F1", asap);
    // taken back
    check("ORC|XO||F1\rTQ1|1||||||||\"\"\rOBR|1||F1", routine);
    // before its order, where no standard has it
    check("TQ1|1||||||||S\rORC|NW||F1\rOBR|1||F1", stat);
}

#[test]
fn an_unknown_priority_is_a_warning_and_the_next_place_is_asked() {
    let rest = format!("{PID}ORC|NW||F1||||^^^^^X9\rOBR|1||F1||A");
    let (deed, warnings) = super::read(&message("ORM^O01", &rest), &settings()).unwrap();
    let Deed::Orders(orders) = deed else {
        panic!("no order");
    };
    assert_eq!(orders[0].priority, Some(OrderPriority::Asap));
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].at.to_string(), "ORC-7.6");
    assert!(!warnings[0].text.contains("X9"), "values are not repeated");
}

#[test]
fn accession_and_study_are_found() {
    let found = order(&format!(
        "{PID}ORC|NW|PL1|F1\rOBR|1|PL1|F1|MRBR^MR brain^L||||||||||||||ACC1^RIS\rZDS|1.2.3^100^App^DICOM"
    ));
    assert_eq!(found.about.accession, id("ACC1", "RIS"));
    assert_eq!(found.about.study_uid.as_deref(), Some("1.2.3"));
    assert_eq!(found.about.patient, id("P1", "HOSP"));
    assert_eq!(found.procedure.as_deref(), Some("MR brain"));
    assert_eq!(found.key, "RIS|HOSP filler F1");
    let found = &orders(
        "OMI^O23",
        &format!(
            "{PID}ORC|NW|PL1|F1\rTQ1|1||||||||S\rOBR|1|PL1|F1|X\rIPC|ACC2^RIS^1.9^ISO|RP1|1.2.4|SPS1"
        ),
    )[0];
    assert_eq!(found.about.accession, id("ACC2", "RIS&1.9"));
    assert_eq!(found.about.study_uid.as_deref(), Some("1.2.4"));
    // no accession number of its own: the filler's number is one
    let found = &orders("OMG^O19", &format!("{PID}ORC|NW|PL1|F7\rOBR|1|PL1|F7|X"))[0];
    assert_eq!(found.about.accession, id("F7", ""));
}

#[test]
fn several_orders_in_one_message() {
    let all = orders(
        "ORM^O01",
        &format!(
            "{PID}ORC|NW||F1\rTQ1|1||||||||S\rOBR|1||F1\rORC|CA||F2\rOBR|2||F2\rOBR|3||F3||A\rZDS|1.2.3"
        ),
    );
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].priority, Some(OrderPriority::Stat));
    assert!(all[1].cancelled && !all[0].cancelled && !all[2].cancelled);
    assert_eq!(all[2].priority, Some(OrderPriority::Asap));
    assert!(
        all.iter()
            .all(|o| o.about.study_uid.as_deref() == Some("1.2.3"))
    );
}

#[test]
fn patients_are_known_by_the_settings_authority() {
    let rest = "PID|1||9^^^NATIONAL^NI~P1^^^HOSP&1.2&ISO^MR~P2^^^OTHER^MR\rORC|NW||F1\rOBR|1||F1";
    assert_eq!(order(rest).about.patient, id("P1", "HOSP&1.2"));
    let mut chosen = settings();
    chosen.patient_issuer = "OTHER".into();
    let (deed, _) = super::read(&message("ORM^O01", rest), &chosen).unwrap();
    assert!(matches!(deed, Deed::Orders(o) if o[0].about.patient == id("P2", "OTHER")));
}

#[test]
fn another_authoritys_patient_is_nobodys_here() {
    let mut ours = settings();
    ours.patient_issuer = "HOSP".into();
    let read = |kind: &str, rest: &str| super::read(&message(kind, rest), &ours);
    let check = |kind: &str, rest: &str, place: &str| {
        let (deed, warnings) = read(kind, rest).unwrap();
        assert_eq!(deed, Deed::Nothing, "{rest}");
        assert_eq!(warnings[0].at.to_string(), place, "{rest}");
    };
    check("ADT^A08", "PID|1||P1^^^OTHER^MR||Doe^Jane", "PID-3");
    check("ADT^A08", "PID|1|P1|P1^^^OTHER^MR||Doe^Jane", "PID-3");
    check("ADT^A40", "PID|1||P1^^^OTHER^MR\rMRG|P2^^^HOSP^MR", "PID-3");
    check("ADT^A40", "PID|1||P1^^^HOSP^MR\rMRG|P2^^^OTHER^MR", "MRG-1");
    let of = |rest: &str| match read("ADT^A08", rest).unwrap().0 {
        Deed::Demographics(known) => Some(known.patient),
        _ => None,
    };
    let named = "PID|1||P2^^^OTHER^MR~P1^^^HOSP^PI||Doe^Jane";
    assert_eq!(of(named), id("P1", "HOSP"));
    // who does not say whose it is means the one that both know
    assert_eq!(of("PID|1||P2^^^OTHER^MR~P1||Doe^Jane"), id("P1", ""));
    assert_eq!(of("PID|1|P1|||Doe^Jane"), id("P1", ""));
    let mixed = "PID|1||P1^^^HOSP\rMRG|P2^^^OTHER\rPID|2||P3^^^HOSP\rMRG|P4^^^HOSP";
    let (deed, warnings) = read("ADT^A40", mixed).unwrap();
    assert!(matches!(deed, Deed::Merge(all) if all.len() == 1));
    assert_eq!(warnings.len(), 1);
    // an order is lost: its sender is to know
    let order = "PID|1||P1^^^OTHER^MR\rORC|NW||F1\rOBR|1||F1";
    assert_eq!(read("ORM^O01", order).unwrap_err().at.to_string(), "PID-3");
}

#[test]
fn what_is_missing_is_named() {
    check_fault("ORM^O01", "ORC|NW||F1", "PID");
    check_fault("ORM^O01", "PID|1||\rORC|NW||F1", "PID-3");
    check_fault("ORM^O01", PID, "ORC");
    check_fault("ORM^O01", &format!("{PID}ORC|NW||F1\rORC|NW"), "ORC[2]-3");
    check_fault("ORM^O01", &format!("{PID}ORC|NW||F1\rZDS|1.2.x"), "ZDS-1");
    check_fault("ADT^A40", PID, "MRG");
    check_fault("ADT^A40", &format!("{PID}MRG|"), "MRG-1");
    check_fault("ADT^A40", "MRG|P0", "PID-3");
    check_fault("ADT^A08", "EVN||2026", "PID");
    check_fault("ORU^R01", PID, "OBR");
    check_fault("ORU^R01", &format!("{PID}OBR|1||F1"), "OBR-25");
    check_fault("ORU^R01", "OBR|1||||||||||||||||||||||||F", "OBR-18");
    check_fault("SIU^S12", PID, "MSH-9");
}

#[test]
fn only_a_final_report_says_that_a_study_was_read() {
    let report = |state: &str| {
        let pipes = "|".repeat(22);
        let rest = format!("{PID}OBR|1||F1{pipes}{state}\rOBX|1|HD|113014^DICOM Study^DCM||1.2.3");
        super::read(&message("ORU^R01", &rest), &settings())
            .unwrap()
            .0
    };
    let Deed::Reports(reports) = report("F") else {
        panic!("not final");
    };
    let [FinalReport { about, .. }] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(about.study_uid.as_deref(), Some("1.2.3"));
    assert_eq!(about.accession, id("F1", ""));
    assert!(matches!(report("C"), Deed::Reports(_)));
    for state in ["P", "R", "I", "X"] {
        assert_eq!(report(state), Deed::Nothing, "{state}");
    }
}

#[test]
fn abnormal_flags_say_what_a_study_was_read_as() {
    use crate::worklist::opinion::ReadAs::{Abnormal, Unremarkable};
    let check = |flags: &[&str], want| {
        let pipes = "|".repeat(22);
        let mut rest = format!("{PID}OBR|1||F1{pipes}F\rOBX|1|HD|113014^DICOM Study^DCM||1.2.3");
        for flag in flags {
            rest += "\rOBX|2|TX|59776-5^Findings^LN||text|||";
            rest += flag;
        }
        let (deed, _) = super::read(&message("ORU^R01", &rest), &settings()).unwrap();
        let Deed::Reports(reports) = deed else {
            panic!("no report");
        };
        assert_eq!(reports[0].outcome, want, "{flags:?}");
    };
    check(&[], None);
    check(&[""], None);
    check(&["N"], Some(Unremarkable));
    check(&["N", ""], Some(Unremarkable));
    check(&["N", "A"], Some(Abnormal));
    check(&["HH"], Some(Abnormal));
    check(&["N", "S"], None);
}

#[test]
fn patients_are_described_and_merged() {
    let pid = "PID|1||P1^^^HOSP^MR||Doe&van^Jane^Q^Jr^Dr||19420131|F\r";
    let Deed::Demographics(known) = super::read(&message("ADT^A08", pid), &settings())
        .unwrap()
        .0
    else {
        panic!("not described");
    };
    assert_eq!(known.name.as_deref(), Some("Doe^Jane^Q^Dr^Jr"));
    assert_eq!(known.birth_date.as_deref(), Some("19420131"));
    assert_eq!(known.sex.as_deref(), Some("F"));
    let two = format!("{pid}MRG|P0^^^HOSP\rPID|1||P3\rMRG|P2");
    let Deed::Merge(merges) = super::read(&message("ADT^A40", &two), &settings())
        .unwrap()
        .0
    else {
        panic!("not merged");
    };
    let pairs: Vec<(&str, &str)> = merges
        .iter()
        .map(|m| (m.prior.id.as_str(), m.surviving.patient.id.as_str()))
        .collect();
    assert_eq!(pairs, [("P0", "P1"), ("P2", "P3")]);
    // what is not known changes nothing
    let bare = super::read(&message("ADT^A31", "PID|1||P1|||||"), &settings())
        .unwrap()
        .0;
    assert!(matches!(bare, Deed::Demographics(d) if d.name.is_none() && d.sex.is_none()));
    assert_eq!(
        super::read(&message("ADT^A03", "PID|1"), &settings())
            .unwrap()
            .0,
        Deed::Nothing
    );
}
