//! What a search asks for (R4 3.1.1): values of one parameter are alternatives, parameters and their repetitions all
//! hold. What is not understood is refused: an answer that leaves it out would be wrong.

use super::Problem;
use crate::fhir::subscription::{bands, priorities};
use crate::fhir::{COUNT, PARAMETERS, Token, parameters_of, tokens};
use crate::store::fhir::{StudyFilter, StudyName};

/// Furthest that a search can be paged, in studies.
const OFFSET_MAX: u64 = 1_000_000;
/// Alternatives of one parameter.
const VALUES_MAX: usize = 100;
/// Code system of the status of a report (R4 diagnostic-report-status).
const STATUSES: &str = "http://hl7.org/fhir/diagnostic-report-status";
/// Naming system of Study Instance UIDs.
const UIDS: &str = "urn:dicom:uid";

/// What a search asks for.
pub(super) struct Search {
    pub(super) filter: StudyFilter,
    /// Only resources with one of these ids.
    ids: Option<Vec<String>>,
    pub(super) count: u64,
    pub(super) offset: u64,
}

impl Search {
    /// Reads the parameters of a search for this type.
    ///
    /// # Errors
    /// Names the parameter that is none, or cannot be met.
    pub(super) fn read(kind: &str, given: &[(String, String)]) -> Result<Self, Problem> {
        let mut search = Self {
            filter: StudyFilter::default(),
            ids: None,
            count: COUNT.0,
            offset: 0,
        };
        for (at, (name, value)) in given.iter().enumerate() {
            let again = given[..at].iter().any(|(earlier, _)| earlier == name);
            match name.as_str() {
                "_count" | "_offset" if again => {
                    return Err(refused(format!("{name} can be given once.")));
                }
                "_count" => search.count = number(name, value, COUNT.1)?.max(1),
                "_offset" => search.offset = number(name, value, OFFSET_MAX)?,
                "_format" => {}
                "_id" => both(&mut search.ids, ids(value)?),
                _ if kind == "Device" => return Err(unknown(kind, name)),
                "identifier" => search.filter.names.push(names(value)?),
                "subject:identifier" => search.filter.patient_ids.push(patients(value)?),
                _ => search.of_type(kind, name, value)?,
            }
        }
        search.filter.with_accession = kind == "ServiceRequest";
        if let Some(ids) = &search.ids {
            let StudyFilter {
                study_uids, keys, ..
            } = of_ids(kind, ids);
            (search.filter.study_uids, search.filter.keys) = (study_uids, keys);
        }
        Ok(search)
    }

    /// Parameters that only one type has.
    fn of_type(&mut self, kind: &str, name: &str, value: &str) -> Result<(), Problem> {
        match (kind, name) {
            ("DiagnosticReport", "conclusion") => {
                let asked = bands(value).ok_or_else(|| {
                    refused("conclusion must be elevated, urgent or critical.".into())
                })?;
                both(&mut self.filter.bands, asked);
            }
            ("DiagnosticReport", "status") => both(&mut self.filter.settled, settled(value)?),
            ("ServiceRequest", "priority") => {
                let asked = priorities(value).ok_or_else(|| {
                    refused("priority must be routine, urgent, asap or stat.".into())
                })?;
                both(&mut self.filter.orders, asked);
            }
            _ => return Err(unknown(kind, name)),
        }
        Ok(())
    }

    /// Whether a resource with this id is asked for, as far as ids are.
    pub(super) fn wants(&self, id: &str) -> bool {
        let ids = self.ids.as_ref();
        ids.is_none_or(|ids| ids.iter().any(|wanted| wanted == id))
    }
}

/// The studies that resources are of. Ids of observations begin with the study's key.
pub(super) fn of_ids(kind: &str, ids: &[String]) -> StudyFilter {
    if kind == "Observation" {
        let key = |id: &String| id.split('-').next()?.parse().ok();
        return StudyFilter {
            keys: Some(ids.iter().filter_map(key).collect()),
            ..StudyFilter::default()
        };
    }
    StudyFilter {
        study_uids: Some(ids.to_vec()),
        ..StudyFilter::default()
    }
}

/// A parameter that is repeated holds each time.
fn both<T: PartialEq>(known: &mut Option<Vec<T>>, more: Vec<T>) {
    match known {
        Some(known) => known.retain(|value| more.contains(value)),
        None => *known = Some(more),
    }
}

fn refused(detail: String) -> Problem {
    Problem::bad_request("bad_parameter", detail)
}

fn number(name: &str, text: &str, most: u64) -> Result<u64, Problem> {
    let number = text.parse::<u64>().ok().filter(|n| *n <= most);
    number.ok_or_else(|| refused(format!("{name} must be a number up to {most}.")))
}

fn alternatives(name: &str, text: &str) -> Result<Vec<Token>, Problem> {
    let all = tokens(text).filter(|all| all.len() <= VALUES_MAX);
    all.ok_or_else(|| {
        refused(format!(
            "{name} must be one value, or up to {VALUES_MAX} with commas between them; none may be empty."
        ))
    })
}

/// What is given out under no system is not found under one.
fn no_system(name: &str, token: &Token) -> Result<(), Problem> {
    match token.system.as_deref() {
        None | Some("") => Ok(()),
        Some(system) => Err(refused(format!(
            "{name} has no system {system:?} here; leave it out."
        ))),
    }
}

fn ids(text: &str) -> Result<Vec<String>, Problem> {
    let all = alternatives("_id", text)?.into_iter().map(|token| {
        no_system("_id", &token)?;
        Ok(token.code)
    });
    all.collect()
}

fn names(text: &str) -> Result<Vec<StudyName>, Problem> {
    let mut names = Vec::new();
    for token in alternatives("identifier", text)? {
        let uid =
            |code: &str| StudyName::Uid(code.strip_prefix("urn:oid:").unwrap_or(code).to_owned());
        match token.system.as_deref() {
            Some(UIDS) => names.push(uid(&token.code)),
            None => names.extend([uid(&token.code), StudyName::Accession(token.code)]),
            Some(_) => {
                no_system("identifier (but for urn:dicom:uid)", &token)?;
                names.push(StudyName::Accession(token.code));
            }
        }
    }
    Ok(names)
}

fn patients(text: &str) -> Result<Vec<String>, Problem> {
    let name = "subject:identifier";
    let all = alternatives(name, text)?.into_iter().map(|token| {
        no_system(name, &token)?;
        Ok(token.code)
    });
    all.collect()
}

/// Of a report: preliminary once it was looked at.
fn settled(text: &str) -> Result<Vec<bool>, Problem> {
    let wrong = || refused("status must be preliminary or registered.".into());
    let all = alternatives("status", text)?.into_iter().map(|token| {
        let ours = [None, Some(STATUSES)].contains(&token.system.as_deref());
        match token.code.as_str() {
            "preliminary" if ours => Ok(true),
            "registered" if ours => Ok(false),
            _ => Err(wrong()),
        }
    });
    all.collect()
}

fn unknown(kind: &str, name: &str) -> Problem {
    let known: Vec<&str> = PARAMETERS
        .iter()
        .filter(|(known, _)| kind != "Device" || known.starts_with('_'))
        .chain(parameters_of(kind))
        .map(|(name, _)| *name)
        .collect();
    let detail = format!(
        "{name:?} is no search parameter here; there are {}.",
        known.join(", ")
    );
    Problem::bad_request("unknown_parameter", detail)
}
