//! What the hospital's systems say of studies: orders, patients, final reports; and when that is about a study (pure).

use super::opinion::ReadAs;
use crate::triage::OrderPriority;

/// An identifier and who assigned it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identifier {
    /// The identifier.
    pub id: String,
    /// Who assigned it: namespace, universal id, or both with `&` between them; `None` where it is not said.
    pub issuer: Option<String>,
}

impl Identifier {
    /// `None` for an empty id.
    #[must_use]
    pub fn new(id: &str, issuer: Option<&str>) -> Option<Self> {
        let issuer = issuer.map(str::trim).filter(|text| !text.is_empty());
        Some(id.trim()).filter(|id| !id.is_empty()).map(|id| Self {
            id: id.to_owned(),
            issuer: issuer.map(str::to_owned),
        })
    }

    /// Whether both name the same thing: an issuer that one of them does not say is not compared.
    #[must_use]
    pub fn is(&self, id: Option<&str>, issuer: Option<&str>) -> bool {
        id.is_some_and(|id| id.trim() == self.id) && issuers_agree(self.issuer.as_deref(), issuer)
    }

    /// The issuer as DICOM writes it: its namespace, else its universal id.
    #[must_use]
    pub fn issuer_name(&self) -> Option<&str> {
        self.issuer
            .as_deref()?
            .split('&')
            .find(|part| !part.is_empty())
    }
}

/// Whether two issuers may be one: they share a name, or one of them is not said.
#[must_use]
pub fn issuers_agree(one: Option<&str>, other: Option<&str>) -> bool {
    fn names(text: &str) -> impl Iterator<Item = &str> {
        text.split('&')
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    if names(one).next().is_none() || names(other).next().is_none() {
        return true;
    }
    names(one).any(|a| names(other).any(|b| a.eq_ignore_ascii_case(b)))
}

/// What an order or a report says of the study it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// (0020,000D)
    pub study_uid: Option<String>,
    /// Accession number.
    pub accession: Option<Identifier>,
    /// The patient.
    pub patient: Option<Identifier>,
}

/// What a study says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct StudyKeys<'a> {
    /// (0020,000D)
    pub study_uid: &'a str,
    /// (0008,0050)
    pub accession: Option<&'a str>,
    /// (0008,0051)
    pub accession_issuer: Option<&'a str>,
    /// (0010,0020)
    pub patient_id: Option<&'a str>,
    /// (0010,0021)
    pub patient_issuer: Option<&'a str>,
}

/// How sure it is that something is about a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// By Study Instance UID, or by accession number and patient together.
    Sure,
    /// The patient alone: shown, and changes nothing.
    Possible,
    /// Not about it.
    No,
}

impl About {
    /// Whether this is about the study.
    #[must_use]
    pub fn matches(&self, study: &StudyKeys<'_>) -> Match {
        let patient = self
            .patient
            .as_ref()
            .is_some_and(|p| p.is(study.patient_id, study.patient_issuer));
        let accession = self
            .accession
            .as_ref()
            .map(|a| a.is(study.accession, study.accession_issuer));
        match &self.study_uid {
            Some(uid) if uid == study.study_uid => Match::Sure,
            _ if patient && accession == Some(true) => Match::Sure,
            _ if patient => Match::Possible,
            _ => Match::No,
        }
    }
}

/// An order, as one message tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RisOrder {
    /// What makes it this order and no other, among those of its sender.
    pub key: String,
    /// Number of who ordered it.
    pub placer: Option<String>,
    /// Number of who does it.
    pub filler: Option<String>,
    /// The study.
    pub about: About,
    /// `None` where the message does not say: then what was said before holds.
    pub priority: Option<OrderPriority>,
    /// It was cancelled: its priority no longer counts.
    pub cancelled: bool,
    /// What was ordered, in words.
    pub procedure: Option<String>,
}

/// An order that is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownOrder {
    /// Sender and its number for the order.
    pub order_key: String,
    /// Number of who ordered it.
    pub placer: Option<String>,
    /// Number of who does it.
    pub filler: Option<String>,
    /// Accession number.
    pub accession: Option<String>,
    /// stat, asap or routine; null while no message said.
    pub priority: Option<String>,
    /// It was cancelled.
    pub cancelled: bool,
    /// What was ordered, in words.
    pub procedure: Option<String>,
    /// When anything was last said of it, RFC 3339.
    pub changed_at: String,
}

/// A final report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalReport {
    /// The study.
    pub about: About,
    /// What its abnormal flags say, where they say something.
    pub outcome: Option<ReadAs>,
}

/// What is known of a patient; `None` changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demographics {
    /// Who.
    pub patient: Identifier,
    /// As in DICOM, `Family^Given^Middle^Prefix^Suffix`.
    pub name: Option<String>,
    /// `YYYYMMDD`
    pub birth_date: Option<String>,
    /// F, M or O.
    pub sex: Option<String>,
}

/// Two patients are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The identifier that is no longer used.
    pub prior: Identifier,
    /// The patient that stays.
    pub surviving: Demographics,
}

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Keep these orders and rank by them.
    Orders(Vec<RisOrder>),
    /// These studies are read.
    Reports(Vec<FinalReport>),
    /// Know a patient better.
    Demographics(Demographics),
    /// Make two patients one.
    Merge(Vec<Merge>),
    /// Nothing that concerns us.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers() {
        let check = |one: Option<&str>, other: Option<&str>, agree: bool| {
            assert_eq!(issuers_agree(one, other), agree, "{one:?} {other:?}");
            assert_eq!(issuers_agree(other, one), agree, "{other:?} {one:?}");
        };
        check(None, Some("HOSP"), true);
        check(Some(""), Some("HOSP"), true);
        check(Some("HOSP"), Some("hosp "), true);
        check(Some("HOSP&1.2.3"), Some("1.2.3"), true);
        check(Some("HOSP&1.2.3"), Some("OTHER"), false);
    }

    #[test]
    fn only_the_study_or_accession_and_patient_together_match() {
        let study = StudyKeys {
            study_uid: "1.2",
            accession: Some("A1"),
            accession_issuer: Some("RIS"),
            patient_id: Some("P1"),
            patient_issuer: Some("HOSP"),
        };
        let check = |uid: &str, accession: (&str, &str), patient: (&str, &str), expected: Match| {
            let about = About {
                study_uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
                accession: Identifier::new(accession.0, Some(accession.1)),
                patient: Identifier::new(patient.0, Some(patient.1)),
            };
            assert_eq!(about.matches(&study), expected, "{about:?}");
        };
        check("1.2", ("", ""), ("", ""), Match::Sure);
        check("", ("A1", "RIS"), ("P1", "HOSP"), Match::Sure);
        check("", ("A1", ""), ("P1", ""), Match::Sure);
        check("", ("A1", "RIS"), ("", ""), Match::No);
        check("", ("A1", "RIS"), ("P2", "HOSP"), Match::No);
        check("", ("A1", "RIS"), ("P1", "OTHER"), Match::No);
        check("", ("A1", "OTHER"), ("P1", "HOSP"), Match::Possible);
        check("", ("A2", "RIS"), ("P1", "HOSP"), Match::Possible);
        check("1.3", ("", ""), ("P1", "HOSP"), Match::Possible);
        check("1.3", ("A1", "RIS"), ("P1", "HOSP"), Match::Sure);
        check("", ("", ""), ("", ""), Match::No);
    }
}
