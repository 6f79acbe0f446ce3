//! The segments that belong to one order, and where in them things are said.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dicom::guard;
use crate::hl7::message::{Fault, FaultCode, Field, Message, Place, Segment};
use crate::worklist::ris::Identifier;

/// A field of a segment that settings name: `OBR-18`, `ZDS-1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName {
    /// Three characters.
    pub segment: String,
    /// From 1.
    pub field: usize,
}

impl FromStr for FieldName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(segment, field)| {
            let fits = segment.len() == 3 && segment.bytes().all(|b| b.is_ascii_alphanumeric());
            let field = field.parse().ok().filter(|n| (1..=256).contains(n))?;
            fits.then(|| Self {
                segment: segment.to_ascii_uppercase(),
                field,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is no field like OBR-18"))
    }
}

impl TryFrom<String> for FieldName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.segment, self.field)
    }
}

/// A segment, and which of its name it is in its message.
#[derive(Clone, Copy)]
pub(super) struct Located<'a> {
    pub segment: &'a Segment,
    pub sequence: usize,
}

impl Located<'_> {
    pub fn place(&self, field: usize) -> Place {
        Place {
            segment: self.segment.name.clone(),
            sequence: self.sequence,
            field: Some(field),
            component: None,
        }
    }
}

/// The segments of one order.
#[derive(Default)]
pub(super) struct Group<'a> {
    pub segments: Vec<Located<'a>>,
}

impl<'a> Group<'a> {
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Located<'a>> + 's {
        let named = self.segments.iter().filter(move |s| s.segment.name == name);
        named.copied()
    }

    pub fn first(&self, name: &str) -> Option<Located<'a>> {
        self.all(name).next()
    }

    fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The first of these fields that says something.
    pub fn first_of(&self, fields: &[FieldName]) -> Option<(Located<'a>, &'a Field)> {
        fields.iter().find_map(|name| {
            self.all(&name.segment)
                .map(|s| (s, s.segment.field(name.field)))
                .find(|(_, field)| !field.text().is_empty() && !field.is_null())
        })
    }

    /// Study Instance UID: in ZDS (IHE RAD TF-2 4.4), IPC (2.5.1 4.5.6), or an OBX with its code.
    pub fn study_uid(&self) -> Result<Option<String>, Fault> {
        let in_field = |name: &'static str, number: usize| {
            self.all(name)
                .map(move |s| (s, number, s.segment.text(number)))
                .find(|(_, _, text)| !text.is_empty())
        };
        let in_obx = || {
            self.all("OBX")
                .filter(|s| STUDY_UID_CODES.contains(&s.segment.text(3)))
                .map(|s| (s, 5, s.segment.text(5)))
                .find(|(_, _, text)| !text.is_empty())
        };
        let Some((at, field, text)) = in_field("ZDS", 1)
            .or_else(|| in_field("IPC", 3))
            .or_else(in_obx)
        else {
            return Ok(None);
        };
        match guard::uid(text.as_bytes()) {
            Ok(uid) => Ok(Some(uid.to_owned())),
            Err(why) => Err(Fault::new(
                at.place(field),
                FaultCode::DataType,
                format!("the UID of a study is {why}"),
            )),
        }
    }
}

/// Study (DCM 113014, IHE RD) and Study Instance UID (DCM 110180).
const STUDY_UID_CODES: [&str; 2] = ["113014", "110180"];
/// Segments that say which study is meant.
const STUDY_SEGMENTS: [&str; 2] = ["ZDS", "IPC"];

/// The orders of a message. A new one begins with ORC, or with OBR where it has one already.
/// What stands before the first belongs to the first; one ZDS or IPC for all belongs to all.
pub(super) fn groups(message: &Message) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut early = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut study_segments = Vec::new();
    for segment in &message.segments {
        let name = segment.name.as_str();
        let before = seen.iter().filter(|known| **known == name).count();
        seen.push(name);
        let sequence = before + 1;
        let located = Located { segment, sequence };
        let begins = match (name, groups.last()) {
            ("ORC", Some(group)) => group.has("ORC") || group.has("OBR"),
            ("OBR", Some(group)) => group.has("OBR"),
            ("ORC" | "OBR", None) => true,
            _ => false,
        };
        if begins {
            groups.push(Group::default());
        }
        if STUDY_SEGMENTS.contains(&name) {
            study_segments.push(located);
        }
        match groups.last_mut() {
            Some(group) => group.segments.push(located),
            None => early.push(located),
        }
    }
    if let Some(first) = groups.first_mut() {
        early.append(&mut first.segments);
        first.segments = early;
    }
    for name in STUDY_SEGMENTS {
        let mut of_name = study_segments.iter().filter(|s| s.segment.name == name);
        if let (Some(only), None) = (of_name.next(), of_name.next()) {
            for group in &mut groups {
                if !group.has(name) {
                    group.segments.push(*only);
                }
            }
        }
    }
    groups
}

/// An entity identifier (EI), or the like: id, then who assigned it.
pub(super) fn entity(field: &Field) -> Option<Identifier> {
    let first = field.first();
    let (namespace, universal) = (first.text(2), first.text(3));
    let issuer = match (namespace.is_empty(), universal.is_empty()) {
        (false, false) => format!("{namespace}&{universal}"),
        (true, _) => universal.to_owned(),
        (_, true) => namespace.to_owned(),
    };
    Identifier::new(first.text(1), Some(&issuer))
}
