//! Entries of the trail as people read them.

use super::super::words::exact_time;
use crate::store::trail::Entry;

/// An entry in a table.
pub(super) struct Row {
    pub seq: i64,
    pub at: String,
    pub actor: String,
    pub kind: String,
    pub from: String,
    pub action: String,
    /// Empty where it was done.
    pub outcome: &'static str,
    pub study: Option<String>,
    pub patient: Option<String>,
    pub subject: String,
    pub detail: String,
}

/// What people look for, and what its actions begin with.
pub(super) const CHOICES: [(&str, &str); 12] = [
    ("login", "Sign-ins"),
    ("list.", "Lists seen"),
    ("study.", "Studies seen and worked on"),
    ("report.", "Reports seen and saved"),
    ("message.", "Messages uncovered"),
    ("fhir.", "FHIR"),
    ("order.", "Order priorities"),
    ("settings.", "Ranking settings"),
    ("account.", "Accounts changed"),
    ("token.", "Tokens"),
    ("trail.", "This trail looked at"),
    ("system.", "The server: starts, stops, backups"),
];

pub(super) fn row(entry: &Entry, zone: chrono_tz::Tz) -> Row {
    let role = entry.role.as_deref().unwrap_or_default();
    let kind = match entry.actor_kind.as_str() {
        "token" => format!("token, {role}"),
        "system" => "the server".to_owned(),
        _ => role.to_owned(),
    };
    let patient = entry.patient_id.as_ref();
    let issuer = entry.patient_issuer.as_ref();
    Row {
        seq: entry.seq,
        at: exact_time(entry.at_ms, zone),
        actor: entry.actor.clone(),
        kind,
        from: entry.from.clone().unwrap_or_default(),
        action: action(&entry.action).to_owned(),
        outcome: match entry.outcome.as_str() {
            "done" => "",
            "refused" => "refused",
            _ => "failed",
        },
        study: entry.study_uid.clone(),
        patient: patient.map(|id| match issuer {
            Some(issuer) => format!("{id} ({issuer})"),
            None => id.clone(),
        }),
        subject: entry.subject.clone().unwrap_or_default(),
        detail: entry.detail.clone().unwrap_or_default(),
    }
}

/// The way in which a list was shown, in words.
pub(super) fn way(code: &str) -> &str {
    match code {
        "list" => "Worklist",
        "api" => "API",
        "fhir" => "FHIR",
        "intake" => "Intake",
        "opinions" => "Second opinion",
        other => other,
    }
}

/// What was done, in words; an action that has none as it stands.
pub(super) fn action(code: &str) -> &str {
    match code {
        "login" => "Sign-in",
        "logout" => "Sign-out",
        "list.view" => "Saw the list",
        "study.view" => "Saw the study",
        "picture.view" => "Saw pictures of the study",
        "report.view" => "Saw the report",
        "report.export" => "Saved the report as PDF",
        "study.claim" => "Claimed the study",
        "study.release" => "Released the study",
        "study.hand_over" => "Handed the study over",
        "study.read" => "Marked the study read",
        "study.undo" => "Undid marking the study read",
        "study.feedback" => "Gave a view of a finding",
        "study.outcome" => "Said what the study was read as",
        "alert.acknowledge" => "Acknowledged an alert",
        "filter.change" => "Changed own filters",
        "settings.view" => "Saw ranking settings",
        "settings.change" => "Changed ranking settings",
        "quality.view" => "Saw how readings agree",
        "sample.view" => "Saw the audit sample",
        "sample.answer" => "Answered in the audit sample",
        "shown.view" => "Saw what was shown to whom",
        "intake.view" => "Saw what arrived",
        "alerts.view" => "Saw what is alerted",
        "system.view" => "Saw the state of the server",
        "system.start" => "Started",
        "system.stop" => "Stopped",
        "system.backup" => "Began a backup",
        "system.restore" => "Restored from a backup",
        "deliveries.view" => "Saw deliveries",
        "message.view" => "Uncovered a message",
        "delivery.change" => "Changed a delivery",
        "destinations.view" => "Saw destinations",
        "destination.change" => "Changed a destination",
        "order.change" => "Set an order priority",
        "subscription.view" => "Saw subscriptions",
        "subscription.make" => "Subscribed",
        "subscription.end" => "Ended a subscription",
        "fhir.search" => "Searched by FHIR",
        "fhir.read" => "Read by FHIR",
        "password.change" => "Changed the own password",
        "accounts.view" => "Saw accounts and tokens",
        "account.make" => "Made an account",
        "account.change" => "Changed an account",
        "token.make" => "Made a token",
        "token.revoke" => "Revoked a token",
        "trail.view" => "Looked at this trail",
        "trail.export" => "Exported this trail",
        "trail.verify" => "Verified this trail",
        "patient.report" => "Saw who looked at a patient",
        "patient.export" => "Exported who looked at a patient",
        other => other,
    }
}
