//! A destination's own message: segments as HL7 writes them, in which `{{name}}` stands for what is known of a study.
//!
//! A template is read by the parser of messages, and names are filled in after that: a value can never become a
//! separator, and needs no escaping by whoever writes the template. A line may begin with what it depends on:
//! `{{#volumes}}`, `{{#reasons}}` repeat it; `{{#elevated}}`, `{{#urgent}}` leave it out below that band;
//! `{{#observations}}` stands for the OBX of the ready mapping.

use super::{Envelope, Mapping, code_of, flag_of, numbers, order, result, study_time};
use crate::hl7::message::{Message, Segment, parse};
use crate::store::ris::ResultFacts;
use crate::triage::Band;
use crate::worklist::VolumeDetail;

/// Names that may stand anywhere.
pub const NAMES: [&str; 27] = [
    "application",
    "facility",
    "to_application",
    "to_facility",
    "now",
    "control_id",
    "patient_id",
    "patient_issuer",
    "family",
    "given",
    "birth_date",
    "sex",
    "placer",
    "filler",
    "accession",
    "study_uid",
    "study_time",
    "description",
    "band",
    "study_flag",
    "priority",
    "head_start",
    "place",
    "score",
    "state",
    "looked_at",
    "research_use",
];
/// Names in any line: how many segments of its name stand before it, this one included.
const NUMBER: &str = "n";
/// Names in a line of `{{#volumes}}`.
pub const VOLUME_NAMES: [&str; 6] = ["structure", "code", "mm3", "range", "percentile", "flag"];
/// Names in a line of `{{#reasons}}`.
pub const REASON_NAMES: [&str; 2] = ["reason", "minutes"];
/// Longest template, in characters.
const CHARS_MAX: usize = 20_000;

/// When a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    AtLeast(Band),
    EachVolume,
    EachReason,
    Observations,
}

impl When {
    const ALL: [(&str, Self); 5] = [
        ("{{#elevated}}", Self::AtLeast(Band::Elevated)),
        ("{{#urgent}}", Self::AtLeast(Band::Urgent)),
        ("{{#volumes}}", Self::EachVolume),
        ("{{#reasons}}", Self::EachReason),
        ("{{#observations}}", Self::Observations),
    ];
}

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<(When, Segment)>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, to stand after "has a template that".
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > CHARS_MAX {
            return Err(format!("has more than {CHARS_MAX} characters"));
        }
        let mut when = Vec::new();
        let mut plain = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let dependent = When::ALL.iter().find(|(mark, _)| line.starts_with(mark));
            let (rest, depends) = match dependent {
                Some((mark, When::Observations)) if line != *mark => {
                    return Err("has something behind {{#observations}}".into());
                }
                Some((_, When::Observations)) => ("OBX", When::Observations),
                Some((mark, depends)) => (&line[mark.len()..], *depends),
                None => (line, When::Always),
            };
            when.push(depends);
            plain.push_str(rest);
            plain.push('\r');
        }
        let message =
            parse(plain.as_bytes()).map_err(|fault| format!("is no HL7 message: {fault}"))?;
        if message.segments.len() != when.len() {
            return Err("has a line that is no segment".into());
        }
        let separators = crate::hl7::message::Separators::USUAL;
        if message.separators != separators {
            return Err(r"must begin with MSH|^~\&|".into());
        }
        let template = Self(when.into_iter().zip(message.segments).collect());
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<(), String> {
        let header = &self.0[0].1;
        if self.0[0].0 != When::Always || header.text(10) != "{{control_id}}" {
            return Err("must have {{control_id}} in MSH-10".into());
        }
        if header.text(9).is_empty() {
            return Err("says no type of message in MSH-9".into());
        }
        if header.text(18) != "UNICODE UTF-8" {
            return Err("must say UNICODE UTF-8 in MSH-18".into());
        }
        let mut says_research = false;
        for (when, segment) in &self.0 {
            let mut wrong = None;
            let further: &[&str] = match when {
                When::EachVolume => &VOLUME_NAMES,
                When::EachReason => &REASON_NAMES,
                _ => &[],
            };
            says_research |= *when == When::Observations;
            for text in texts(segment) {
                if text.matches("{{").count() != names(&text).count() {
                    wrong.get_or_insert("has {{ without }}".to_owned());
                }
                for name in names(&text) {
                    says_research |= name == "research_use";
                    if name != NUMBER && !NAMES.contains(&name) && !further.contains(&name) {
                        wrong.get_or_insert(format!(
                            "names {name:?}, which is not known in that line"
                        ));
                    }
                }
            }
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
        }
        if says_research {
            Ok(())
        } else {
            Err("must have {{research_use}} in it, or {{#observations}}".into())
        }
    }

    /// The message about a study.
    #[must_use]
    pub fn write(&self, facts: &ResultFacts, envelope: &Envelope<'_>) -> Message {
        let mut out: Vec<Segment> = Vec::new();
        for (when, segment) in &self.0 {
            let mut add = |more: &dyn Fn(&str) -> Option<String>| {
                let n = out.iter().filter(|s| s.name == segment.name).count() + 1;
                let value = |name: &str| match name {
                    NUMBER => n.to_string(),
                    _ => more(name).unwrap_or_else(|| known(name, facts, envelope)),
                };
                out.push(segment.map(&|text| fill(text, &value)));
            };
            match when {
                When::Always => add(&|_| None),
                When::AtLeast(band) if facts.study.item.band >= *band => add(&|_| None),
                When::AtLeast(_) => {}
                When::EachVolume => {
                    for volume in &facts.study.volumes {
                        add(&|name| of_volume(name, volume));
                    }
                }
                When::EachReason => {
                    for reason in &facts.study.item.reasons {
                        add(&|name| match name {
                            "reason" => Some(reason.text.clone()),
                            "minutes" => Some(format!("{:.0}", reason.minutes)),
                            _ => None,
                        });
                    }
                }
                When::Observations => {
                    let ready = result::write(facts, Mapping::Obx8, envelope);
                    let ready = ready.segments.into_iter().filter(|s| s.name == "OBX");
                    out.extend(ready);
                }
            }
        }
        Message::new(out)
    }
}

fn of_volume(name: &str, volume: &VolumeDetail) -> Option<String> {
    Some(match name {
        "structure" => volume.structure.clone(),
        "code" => code_of(&volume.structure),
        "mm3" => format!("{:.0}", volume.volume_mm3),
        "range" => volume
            .healthy_mm3
            .map_or_else(String::new, |[low, high]| format!("{low:.0}-{high:.0}")),
        "percentile" => volume
            .percentile
            .map_or_else(String::new, |p| format!("{p:.1}")),
        "flag" => volume.percentile.map_or("", flag_of).to_owned(),
        _ => return None,
    })
}

fn known(name: &str, facts: &ResultFacts, envelope: &Envelope<'_>) -> String {
    let item = &facts.study.item;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (placer, filler) = numbers(facts);
    let raw = facts.patient_name.as_deref().unwrap_or_default();
    let mut person = raw.split('=').next().unwrap_or_default().split('^');
    let family = person.next().unwrap_or_default();
    let given = person.next().unwrap_or_default();
    match name {
        "application" => envelope.application.to_owned(),
        "facility" => envelope.facility.to_owned(),
        "to_application" => envelope.to_application.to_owned(),
        "to_facility" => envelope.to_facility.to_owned(),
        "now" => envelope.at.to_owned(),
        "control_id" => envelope.control_id.to_owned(),
        "patient_id" => text(&item.patient_id),
        "patient_issuer" => text(&facts.patient_issuer),
        "family" => family.trim().to_owned(),
        "given" => given.trim().to_owned(),
        "birth_date" => text(&facts.birth_date),
        "sex" => text(&item.sex),
        "placer" => placer.to_owned(),
        "filler" => filler.to_owned(),
        "accession" => text(&item.accession),
        "study_uid" => item.study_uid.clone(),
        "study_time" => study_time(facts),
        "description" => text(&item.description),
        "band" => item.band.as_str().to_owned(),
        "study_flag" => result::flag_of_study(item.band).to_owned(),
        "priority" => order::priority(item.band, &item.order_priority).to_owned(),
        "head_start" => format!("{:.0}", item.head_start_minutes),
        "place" => item.rank.to_string(),
        "score" => item
            .p_abnormal
            .map_or_else(String::new, |p| format!("{p:.3}")),
        "state" => item.state.clone(),
        "looked_at" => text(&item.looked_at),
        "research_use" => crate::RESEARCH_USE.to_owned(),
        _ => String::new(),
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let opened = text.split("{{").skip(1);
    opened.filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.trim()))
}

fn fill(text: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            break;
        };
        out.push_str(before);
        out.push_str(&value(name.trim()));
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn texts(segment: &Segment) -> Vec<String> {
    let all = std::cell::RefCell::new(Vec::new());
    let _ = segment.map(&|text| {
        all.borrow_mut().push(text.to_owned());
        String::new()
    });
    all.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r"MSH|^~\&|{{application}}|||{{to_facility}}|{{now}}||ORU^R01^ORU_R01|{{control_id}}|P|2.5.1||||||UNICODE UTF-8";

    #[test]
    fn what_is_no_template_is_refused() {
        let check = |text: &str, word: &str| match Template::parse(text) {
            Ok(_) => assert_eq!(word, "", "{text}"),
            Err(error) => assert!(!word.is_empty() && error.contains(word), "{error}"),
        };
        let with = |more: &str| format!("{HEAD}\n{more}");
        check(&with("NTE|1||{{research_use}}"), "");
        check(&with("{{#observations}}"), "");
        check(
            &with("{{#volumes}}OBX|{{n}}|NM|{{code}}||{{mm3}}\nNTE|1||{{research_use}}"),
            "",
        );
        check("", "no HL7");
        check("PID|1", "no HL7");
        check(HEAD, "research_use");
        check(&with("NTE|{{research_use}"), "without");
        check(&with("NTE|{{name}}|{{research_use}}"), "name");
        check(&with("OBX|1|NM|{{mm3}}\nNTE|{{research_use}}"), "mm3");
        check(&with("{{#observations}}OBX|1"), "behind");
        check(&with("hello"), "no HL7");
        check(
            &with("NTE|{{research_use}}").replace("{{control_id}}", "1"),
            "MSH-10",
        );
        check(
            &with("NTE|{{research_use}}").replace("|UNICODE UTF-8", ""),
            "MSH-18",
        );
        check(
            &with("NTE|{{research_use}}").replace("ORU^R01^ORU_R01", ""),
            "MSH-9",
        );
        check(&format!("{HEAD}{}", "x".repeat(CHARS_MAX)), "characters");
    }
}
