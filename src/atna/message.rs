//! An entry of the trail as a DICOM audit message (PS3.15 A.5.1 says its form, A.5.3 which event has what in it).
//!
//! What the standard has an event for is that event; our own word for it stands beside as a type of our own, and the
//! entry itself is the last object of each message, with its digest: the repository is a witness of the chain.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::rfc3339;
use crate::store::trail::Entry;

/// Our own codes.
const OWN: &str = "99FIRSTREAD";
/// Codes of DICOM (PS3.16 D).
const DCM: &str = "DCM";
/// What a participating object is named by (PS3.15 A.5.1.2.4).
const RFC3881: &str = "RFC-3881";

/// A coded value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Coded {
    code: String,
    system: &'static str,
    meaning: String,
}

fn coded((code, system, meaning): Code) -> Coded {
    Coded {
        code: code.to_owned(),
        system,
        meaning: meaning.to_owned(),
    }
}

fn own(word: &str) -> Coded {
    Coded {
        code: word.to_owned(),
        system: OWN,
        meaning: word.to_owned(),
    }
}

/// Code, system, meaning.
type Code = (&'static str, &'static str, &'static str);

// Audit event ids: PS3.16 CID 400
const APPLICATION_ACTIVITY: Code = ("110100", DCM, "Application Activity");
const AUDIT_LOG_USED: Code = ("110101", DCM, "Audit Log Used");
const INSTANCES_ACCESSED: Code = ("110103", DCM, "DICOM Instances Accessed");
const EXPORT: Code = ("110106", DCM, "Export");
const ORDER_RECORD: Code = ("110109", DCM, "Order Record");
const QUERY: Code = ("110112", DCM, "Query");
const SECURITY_ALERT: Code = ("110113", DCM, "Security Alert");
const USER_AUTHENTICATION: Code = ("110114", DCM, "User Authentication");
// their types: CID 401 and 403
const APPLICATION_START: Code = ("110120", DCM, "Application Start");
const APPLICATION_STOP: Code = ("110121", DCM, "Application Stop");
const LOGIN: Code = ("110122", DCM, "Login");
const LOGOUT: Code = ("110123", DCM, "Logout");
const NETWORK_CONFIGURATION: Code = ("110128", DCM, "Network Configuration");
const SOFTWARE_CONFIGURATION: Code = ("110131", DCM, "Software Configuration");
const RESTRICTED_FUNCTION: Code = ("110132", DCM, "Use of Restricted Function");
const USER_ATTRIBUTES: Code = ("110137", DCM, "User security Attributes Changed");
// roles of who takes part: CID 402
const APPLICATION: Code = ("110150", DCM, "Application");
const DESTINATION: Code = ("110152", DCM, "Destination Role ID");
const SOURCE: Code = ("110153", DCM, "Source Role ID");
const DESTINATION_MEDIA: Code = ("110154", DCM, "Destination Media");
const URI_MEDIA: Code = ("110037", DCM, "URI");
// what an object is named by
const STUDY_UID: Code = ("110180", DCM, "Study Instance UID");
const PATIENT_NUMBER: Code = ("2", RFC3881, "Patient Number");
const SEARCH_CRITERIA: Code = ("10", RFC3881, "Search Criteria");
const USER_ID: Code = ("11", RFC3881, "User Identifier");
const URI: Code = ("12", RFC3881, "URI");

/// An event of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    id: Code,
    /// C, R, U, D or E: create, read, update, delete, execute.
    action: char,
    /// Its type in the standard's words, where it has one.
    kind: Option<Code>,
}

const fn event(id: Code, action: char, kind: Option<Code>) -> Event {
    Event { id, action, kind }
}

/// The event of an action; `None` for one that nobody thought of here.
fn event_of(action: &str) -> Option<Event> {
    Some(match action {
        "system.start" => event(APPLICATION_ACTIVITY, 'E', Some(APPLICATION_START)),
        "system.stop" => event(APPLICATION_ACTIVITY, 'E', Some(APPLICATION_STOP)),
        "login" => event(USER_AUTHENTICATION, 'E', Some(LOGIN)),
        "logout" => event(USER_AUTHENTICATION, 'E', Some(LOGOUT)),
        "list.view" | "fhir.search" | "intake.view" | "alerts.view" | "quality.view"
        | "sample.view" | "shown.view" => event(QUERY, 'E', None),
        "study.view" | "picture.view" | "report.view" | "message.view" | "fhir.read" => {
            event(INSTANCES_ACCESSED, 'R', None)
        }
        "study.claim" | "study.release" | "study.hand_over" | "study.read" | "study.undo"
        | "study.feedback" | "study.outcome" | "sample.answer" | "alert.acknowledge" => {
            event(INSTANCES_ACCESSED, 'U', None)
        }
        "report.export" => event(EXPORT, 'R', None),
        "order.change" => event(ORDER_RECORD, 'U', None),
        "trail.view" | "trail.export" | "trail.verify" | "patient.report" | "patient.export" => {
            event(AUDIT_LOG_USED, 'R', None)
        }
        "account.make" | "account.change" | "password.change" | "token.make" | "token.revoke" => {
            event(SECURITY_ALERT, 'E', Some(USER_ATTRIBUTES))
        }
        "destination.change" | "subscription.make" | "subscription.end" => {
            event(SECURITY_ALERT, 'E', Some(NETWORK_CONFIGURATION))
        }
        "settings.change" | "filter.change" => {
            event(SECURITY_ALERT, 'E', Some(SOFTWARE_CONFIGURATION))
        }
        "settings.view" | "system.view" | "system.backup" | "system.restore" | "accounts.view"
        | "destinations.view" | "deliveries.view" | "subscription.view" | "delivery.change" => {
            RESTRICTED
        }
        _ => return None,
    })
}

/// What the standard has no nearer word for.
const RESTRICTED: Event = event(SECURITY_ALERT, 'E', Some(RESTRICTED_FUNCTION));

/// Whether an action has an event that was chosen for it.
#[must_use]
pub fn is_known(action: &str) -> bool {
    event_of(action).is_some()
}

/// Who reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `AuditSourceID`
    pub id: String,
    /// `AuditEnterpriseSiteID`; may be empty.
    pub site: String,
    /// Name of the machine.
    pub node: String,
}

#[derive(Debug, Default)]
struct Participant {
    user_id: String,
    alternative: Option<String>,
    requestor: bool,
    roles: Vec<Coded>,
    medium: Option<Coded>,
    /// Address, and what kind of one (PS3.15 A.5.1: 1 name of a machine, 2 IP address).
    network: Option<(String, u8)>,
}

#[derive(Debug)]
struct Object {
    id: String,
    id_type: Coded,
    /// 1 person, 2 system object.
    kind: u8,
    /// PS3.15 A.5.1.2.2
    role: u8,
    /// Name, or query in Base64: the schema asks for one.
    said: String,
    is_query: bool,
    /// Name, and value in Base64.
    details: Vec<(&'static str, String)>,
}

fn object(id: &str, id_type: Code, (kind, role): (u8, u8), said: &str) -> Object {
    Object {
        id: text(id),
        id_type: coded(id_type),
        kind,
        role,
        said: text(said),
        is_query: false,
        details: Vec::new(),
    }
}

#[derive(Template)]
#[template(path = "audit_message.xml", escape = "html")]
struct Message {
    event: EventShown,
    at: String,
    outcome: u8,
    outcome_said: Option<&'static str>,
    types: Vec<Coded>,
    participants: Vec<Participant>,
    site: String,
    source: String,
    objects: Vec<Object>,
}

struct EventShown {
    id: Coded,
    action: char,
}

/// The message of an entry, as XML in one line.
///
/// # Errors
/// When the template fails, which it does not.
pub(super) fn message(entry: &Entry, source: &Source) -> Result<String, askama::Error> {
    let event = event_of(&entry.action).unwrap_or(RESTRICTED);
    let (outcome, outcome_said) = outcome(entry);
    let message = Message {
        at: rfc3339(entry.at_ms),
        outcome,
        outcome_said,
        types: event
            .kind
            .map(coded)
            .into_iter()
            .chain([own(&text(&entry.action))])
            .collect(),
        participants: participants(entry, &event, source),
        site: text(&source.site),
        source: source.id.clone(),
        objects: objects(entry, &event),
        event: EventShown {
            id: coded(event.id),
            action: event.action,
        },
    };
    Ok(message.render()?.replace('\n', ""))
}

/// `EventOutcomeIndicator` (PS3.15 A.5.2): 0 as asked, 4 refused, 8 not possible.
pub(super) fn outcome(entry: &Entry) -> (u8, Option<&'static str>) {
    match entry.outcome.as_str() {
        "refused" => (4, Some("refused")),
        "failed" => (8, Some("failed")),
        _ => (0, None),
    }
}

fn participants(entry: &Entry, event: &Event, source: &Source) -> Vec<Participant> {
    let starts = event.id == APPLICATION_ACTIVITY;
    let own_role = match event.id {
        QUERY => Some(DESTINATION),
        APPLICATION_ACTIVITY => Some(APPLICATION),
        _ => None,
    };
    let application = Participant {
        user_id: source.id.clone(),
        alternative: Some(text(&source.node)).filter(|node| !node.is_empty()),
        roles: own_role.map(coded).into_iter().collect(),
        network: Some((text(&source.node), 1)).filter(|(node, _)| !node.is_empty()),
        ..Participant::default()
    };
    if starts {
        return vec![application];
    }
    let as_source = matches!(event.id, QUERY | EXPORT).then(|| coded(SOURCE));
    let of_account = entry.role.as_ref().map(|role| own(&text(role)));
    let who = Participant {
        user_id: text(&entry.actor),
        requestor: true,
        roles: as_source.into_iter().chain(of_account).collect(),
        network: entry.from.as_ref().map(|from| (text(from), 2)),
        ..Participant::default()
    };
    let mut all = vec![who, application];
    if event.id == EXPORT {
        // where it went: what asked for it
        let to = entry.from.as_ref().unwrap_or(&entry.actor);
        all.push(Participant {
            user_id: text(to),
            roles: vec![coded(DESTINATION_MEDIA)],
            medium: Some(coded(URI_MEDIA)),
            ..Participant::default()
        });
    }
    all
}

fn objects(entry: &Entry, event: &Event) -> Vec<Object> {
    let mut all = Vec::new();
    if let Some(uid) = &entry.study_uid {
        all.push(object(uid, STUDY_UID, (2, 3), "study"));
    }
    if let Some(id) = &entry.patient_id {
        // as HL7's CX: identifier and who assigned it
        let whole = match &entry.patient_issuer {
            Some(issuer) => format!("{id}^^^{issuer}"),
            None => id.clone(),
        };
        // the trail has no names
        all.push(object(&whole, PATIENT_NUMBER, (1, 1), id));
    }
    let subject = entry.subject.as_deref().unwrap_or(&entry.action);
    match event.id {
        QUERY => {
            let asked = entry.detail.as_deref().unwrap_or_default();
            let mut query = object(subject, SEARCH_CRITERIA, (2, 24), "");
            query.said = STANDARD.encode(asked);
            query.is_query = true;
            all.push(query);
        }
        AUDIT_LOG_USED => all.push(object("/trail", URI, (2, 13), "Security Audit Log")),
        SECURITY_ALERT if event.kind == Some(USER_ATTRIBUTES) => {
            all.push(object(subject, USER_ID, (1, 11), subject));
        }
        SECURITY_ALERT => all.push(object(subject, URI, (2, 13), subject)),
        _ => {}
    }
    all.push(the_entry(entry));
    all
}

/// The entry itself, whole: what the standard has no place for is not lost, and the chain can be checked there.
fn the_entry(entry: &Entry) -> Object {
    let mut whole = object(
        &entry.seq.to_string(),
        URI,
        (2, 13),
        "entry of the audit trail",
    );
    whole.id_type = own("trail-entry");
    let fields = [
        ("actor_kind", Some(&entry.actor_kind)),
        ("role", entry.role.as_ref()),
        ("subject", entry.subject.as_ref()),
        ("detail", entry.detail.as_ref()),
        ("previous", Some(&entry.previous)),
        ("digest", Some(&entry.digest)),
    ];
    whole.details = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, STANDARD.encode(value?))))
        .collect();
    whole
}

/// Without what XML cannot say (XML 1.0 2.2).
fn text(text: &str) -> String {
    let fits = |c: &char| !c.is_control() && !('\u{fffe}'..='\u{ffff}').contains(c);
    text.chars().filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: &str) -> Entry {
        Entry {
            seq: 7,
            at_ms: 1_795_680_000_123,
            actor: "anna".into(),
            actor_kind: "user".into(),
            role: Some("reader".into()),
            from: Some("10.0.0.5".into()),
            action: action.into(),
            outcome: "done".into(),
            study_uid: None,
            patient_id: None,
            patient_issuer: None,
            subject: None,
            detail: None,
            previous: "ab".into(),
            digest: "cd".into(),
        }
    }

    fn said(entry: &Entry) -> String {
        let source = Source {
            id: "firstread".into(),
            site: "Clinic <1>".into(),
            node: "mri-1".into(),
        };
        message(entry, &source).unwrap()
    }

    #[test]
    fn each_action_is_the_event_of_the_standard() {
        let check = |action: &str, words: &[&str]| {
            let xml = said(&entry(action));
            for word in words {
                assert!(xml.contains(word), "{action}: no {word} in {xml}");
            }
            let own = format!("csd-code=\"{action}\" codeSystemName=\"99FIRSTREAD\"");
            assert!(xml.contains(&own), "{xml}");
        };
        check("login", &["\"110114\"", "\"110122\"", "\"E\""]);
        check("logout", &["\"110114\"", "\"110123\""]);
        check("study.view", &["\"110103\"", "EventActionCode=\"R\""]);
        check("study.read", &["\"110103\"", "EventActionCode=\"U\""]);
        check("report.export", &["\"110106\"", "\"110153\"", "\"110154\""]);
        check("list.view", &["\"110112\"", "ParticipantObjectQuery"]);
        check("trail.view", &["\"110101\"", "Security Audit Log"]);
        check("account.change", &["\"110113\"", "\"110137\""]);
        check("destination.change", &["\"110113\"", "\"110128\""]);
        check("order.change", &["\"110109\""]);
        check("system.backup", &["\"110113\"", "\"110132\""]);
        check("system.start", &["\"110100\"", "\"110120\"", "\"110150\""]);
        check("never.heard.of", &["\"110113\"", "\"110132\""]);
        assert!(!is_known("never.heard.of"));
    }

    #[test]
    fn what_came_over_the_wire_stays_text() {
        let mut hostile = entry("study.view");
        hostile.actor = "a\"><x y='&\u{ffff}\u{1}".into();
        hostile.patient_id = Some("<P>".into());
        hostile.patient_issuer = Some("A&B".into());
        hostile.outcome = "refused".into();
        let xml = said(&hostile);
        assert!(!xml.contains("<x") && !xml.contains("<P>"), "{xml}");
        assert!(!xml.contains(['\u{ffff}', '\u{1}', '\n']), "{xml}");
        assert!(xml.contains("EventOutcomeIndicator=\"4\""), "{xml}");
        let only = "AuditEnterpriseSiteID=\"Clinic &#60;1&#62;\"";
        assert!(xml.contains(only), "{xml}");
    }
}
