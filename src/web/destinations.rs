//! `/destinations`: those that administrators made, in versions, and those of the settings file, which are only shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use tracing::info;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::parameters;
use super::gate::{Visitor, check_csrf};
use super::view::Frame;
use super::words;
use crate::hl7::{Hl7Destination, Hl7Settings};
use crate::made::{self, Input, KINDS, Made, MadeResults, PREFIX};
use crate::store::accounts::Role;
use crate::store::made::MadeVersion;

/// Destinations that can be made.
const MADE_MAX: usize = 50;
/// Longest reason, in characters.
const NOTE_CHARS_MAX: usize = 200;
/// Stands for a destination that has no name yet.
const NEW: &str = "new";

/// What is known of destinations beside the alerts'.
#[derive(Default)]
pub struct Desk {
    /// As in the settings file.
    pub hl7: Hl7Settings,
    /// Those of results that were made on the page.
    pub made: MadeResults,
    /// Names that the settings file counts on.
    pub needed: Vec<String>,
    /// Whether there is a mail server.
    pub mails: bool,
}

impl Desk {
    /// A destination of results, wherever it is from.
    pub(super) fn hl7_destination(&self, name: &str) -> Option<Hl7Destination> {
        let fixed = self.hl7.destinations.iter();
        let made = self.made.hl7.get();
        fixed.chain(made.iter()).find(|d| d.name == name).cloned()
    }
}

#[derive(Template)]
#[template(path = "destinations.html")]
struct DestinationsPage {
    frame: Frame,
    csrf: String,
    told: Option<&'static str>,
    may_change: bool,
    kinds: Vec<(&'static str, &'static str)>,
    made: Vec<MadeRow>,
    fixed: Vec<FixedRow>,
    versions: Vec<VersionRow>,
}

struct MadeRow {
    name: String,
    reached: String,
    problem: Option<String>,
    version: i64,
    at: String,
    by: String,
    previews: bool,
    paused: bool,
}

struct FixedRow {
    name: String,
    reached: String,
    previews: bool,
    paused: bool,
}

struct VersionRow {
    version: i64,
    at: String,
    by: String,
    name: String,
    changes: String,
    note: String,
}

#[derive(Template)]
#[template(path = "destination_form.html")]
struct FormPage {
    frame: Frame,
    csrf: String,
    /// `new`, or whose version this is to be.
    name: String,
    is_new: bool,
    typed_name: String,
    kind: &'static str,
    fields: Vec<Shown>,
    problem: Option<String>,
    folder: String,
    variable: &'static str,
    has_secret: bool,
}

struct Shown {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
    check: bool,
    lines: bool,
    choices: &'static [&'static str],
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let at = |ms| words::clock_time(ms, now_ms, zone);
    let given = parameters(&req);
    let told = given.iter().find(|(name, _)| name == "told");
    let known = state.store.destinations().await?.into_iter();
    let paused: BTreeSet<String> = known
        .filter(|d| d.paused_at.is_some())
        .map(|d| d.name)
        .collect();
    let row = |version: MadeVersion| {
        let filled = version.filled.unwrap_or_default();
        let read = made::read(&version.kind, &version.name, &filled, &state.data);
        let problem = read.as_ref().err().cloned();
        let problem = problem.or_else(|| no_mail(&version.kind, &state));
        MadeRow {
            reached: read.map(|made| made.reached()).unwrap_or_default(),
            previews: version.kind == "hl7" && problem.is_none(),
            problem,
            paused: paused.contains(&version.name),
            version: version.version,
            at: at(version.at),
            by: version.by,
            name: version.name,
        }
    };
    let made = state.store.made_destinations().await?;
    html(&DestinationsPage {
        frame: Frame::new("Destinations", "deliveries", &visitor, &state),
        csrf: visitor.csrf.clone(),
        told: told.and_then(|(_, what)| match what.as_str() {
            "kept" => Some("Kept. It is in force within a few seconds: send it a test."),
            "removed" => Some("Removed. What it was still to get is skipped."),
            _ => None,
        }),
        may_change: visitor.user.role == Role::Admin,
        kinds: KINDS
            .iter()
            .map(|(kind, label, _)| (*kind, *label))
            .collect(),
        made: made.into_iter().map(row).collect(),
        fixed: fixed(&state, &paused),
        versions: versions(&state.store.made_versions().await?, at),
    })
}

fn no_mail(kind: &str, state: &WebState) -> Option<String> {
    let needs = ["mail", "pager"].contains(&kind) && !state.desk.mails;
    needs.then(|| "there is no mail server: set [smtp] in the settings file".to_owned())
}

fn fixed(state: &WebState, paused: &BTreeSet<String>) -> Vec<FixedRow> {
    let row = |name: &str, reached: String, previews| FixedRow {
        name: name.to_owned(),
        reached,
        previews,
        paused: paused.contains(name),
    };
    let alerts = state.alerts.destinations.iter();
    let alerts = alerts.map(|d| {
        row(
            &d.name,
            format!("{} to {}", d.channel.as_str(), d.to),
            false,
        )
    });
    let hl7 = state.desk.hl7.destinations.iter();
    let hl7 = hl7.map(|d| row(&d.name, d.reached(), true));
    let objects = state.objects_to.iter();
    let objects = objects.map(|(name, to)| row(name, format!("DICOM to {to}"), false));
    alerts.chain(hl7).chain(objects).collect()
}

/// Each with what it changed of the one before it.
fn versions(all: &[MadeVersion], at: impl Fn(i64) -> String) -> Vec<VersionRow> {
    let before = |n: usize| all[n + 1..].iter().find(|v| v.name == all[n].name);
    let changes = |n: usize| match &all[n].filled {
        None => "removed".to_owned(),
        Some(filled) => {
            let earlier = before(n).and_then(|v| v.filled.clone());
            let made = earlier.is_none();
            let earlier = earlier.unwrap_or_default();
            let differs = filled
                .iter()
                .filter(|(key, value)| earlier.get(*key) != Some(*value));
            let mut said: Vec<String> =
                differs.map(|(k, v)| format!("{k}: {}", short(v))).collect();
            let gone = earlier.keys().filter(|key| !filled.contains_key(*key));
            said.extend(gone.map(|key| format!("{key}: none")));
            let what = if made { "made; " } else { "" };
            format!("{what}{}", said.join("; "))
        }
    };
    (0..all.len())
        .map(|n| VersionRow {
            version: all[n].version,
            at: at(all[n].at),
            by: all[n].by.clone(),
            name: all[n].name.clone(),
            changes: changes(n),
            note: all[n].note.clone(),
        })
        .collect()
}

fn short(value: &str) -> String {
    let line: String = value.chars().take(60).collect();
    if line.len() < value.len() {
        format!("{line}...")
    } else {
        line
    }
}

/// `GET /destinations/{name}/form?kind=`: for a new one, or a new version.
pub(super) async fn form(
    req: HttpRequest,
    name: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let kind = given.iter().find(|(key, _)| key == "kind");
    let (kind, filled) = if *name == NEW {
        let kind = kind.map_or("mail", |(_, kind)| kind).to_owned();
        let filled = made::defaults(&kind);
        (kind, filled)
    } else {
        let made = one(&name, &state).await?;
        (made.kind, made.filled.unwrap_or_default())
    };
    shown(&name, &kind, &filled, None, &state, &visitor)
}

async fn one(name: &str, state: &WebState) -> Result<MadeVersion, PageError> {
    let all = state.store.made_destinations().await?;
    let found = all.into_iter().find(|made| made.name == name);
    found.ok_or_else(|| {
        let detail =
            "There is no such destination here; those of the settings file are changed there.";
        Problem::not_found(detail).into()
    })
}

fn shown(
    name: &str,
    kind: &str,
    filled: &BTreeMap<String, String>,
    problem: Option<String>,
    state: &WebState,
    visitor: &Visitor,
) -> Result<HttpResponse, PageError> {
    let known = KINDS.iter().find(|(known, _, _)| *known == kind);
    let Some((kind, label, fields)) = known else {
        return Err(Problem::not_found("There is no such kind of destination.").into());
    };
    let is_new = name == NEW;
    let title = if is_new {
        format!("Add: {label}")
    } else {
        format!("Change {name}")
    };
    let value = |key: &str| filled.get(key).cloned().unwrap_or_default();
    html(&FormPage {
        frame: Frame::new(&title, "deliveries", visitor, state),
        csrf: visitor.csrf.clone(),
        name: name.to_owned(),
        is_new,
        typed_name: value("name"),
        kind,
        fields: fields
            .iter()
            .map(|f| Shown {
                name: f.name,
                label: f.label,
                hint: f.hint,
                value: value(f.name),
                check: f.input == Input::Check,
                lines: f.input == Input::Lines,
                choices: match f.input {
                    Input::Choice(all) => all,
                    _ => &[],
                },
            })
            .collect(),
        problem: problem.or_else(|| no_mail(kind, state)),
        folder: folder(state).display().to_string(),
        variable: made::VARIABLE,
        has_secret: fields.iter().any(|f| f.input == Input::Secret),
    })
}

fn folder(state: &WebState) -> PathBuf {
    state.data.join(made::FOLDER)
}

/// `POST /destinations/{name}/form`: keeps a version, or removes it.
pub(super) async fn keep(
    name: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    wanted: web::Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, PageError> {
    let mut filled = wanted.into_inner();
    let csrf = filled.remove("csrf").unwrap_or_default();
    check_csrf(&csrf, &visitor)?;
    let action = filled.remove("action").unwrap_or_default();
    let kind = filled.remove("kind").unwrap_or_default();
    let note = filled.remove("note").unwrap_or_default();
    let note: String = note.trim().chars().take(NOTE_CHARS_MAX).collect();
    let now_ms = state.clock.now_ms();
    let by = visitor.user.name.as_str();
    let told = if action == "remove" {
        let made = one(&name, &state).await?;
        if state.desk.needed.contains(&made.name) {
            let why =
                "the settings file names it: take it out of [alerts] first, and restart".into();
            let filled = made.filled.unwrap_or_default();
            return shown(&name, &made.kind, &filled, Some(why), &state, &visitor);
        }
        if let Some(other) = stands_in_for(&made.name, &state).await? {
            let why = format!("{other} has it told in its quiet hours: change that first");
            let filled = made.filled.unwrap_or_default();
            return shown(&name, &made.kind, &filled, Some(why), &state, &visitor);
        }
        let noted = (note.as_str(), by);
        state
            .store
            .keep_made_destination(&made.name, &made.kind, None, noted, now_ms)
            .await?;
        "removed"
    } else {
        let full = match name_of(&name, &kind, &filled, &state).await? {
            Ok(full) => full,
            Err(why) => return shown(&name, &kind, &filled, Some(why), &state, &visitor),
        };
        let typed = filled.clone();
        let known = made::fields(&kind).unwrap_or_default();
        filled.retain(|key, value| known.iter().any(|f| f.name == key) && !value.trim().is_empty());
        let read = made::read(&kind, &full, &filled, &state.data);
        let problem = match read {
            Ok(made) => no_stand_in(&made, &state).await?,
            Err(why) => Some(why),
        };
        if problem.is_some() {
            return shown(&name, &kind, &typed, problem, &state, &visitor);
        }
        let noted = (note.as_str(), by);
        state
            .store
            .keep_made_destination(&full, &kind, Some(&filled), noted, now_ms)
            .await?;
        "kept"
    };
    state.roll_call.notify_one();
    info!(destination = %name, action = told, user = by, "a destination was changed");
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("/destinations?told={told}")))
        .finish())
}

/// Another that has this one told in its quiet hours.
async fn stands_in_for(name: &str, state: &WebState) -> Result<Option<String>, PageError> {
    let instead = |made: &MadeVersion| {
        let filled = made.filled.as_ref()?;
        filled.get("quiet_instead").map(|to| to.trim() == name)
    };
    let all = state.store.made_destinations().await?.into_iter();
    let found = all.filter(|made| made.name != name);
    let found = found
        .into_iter()
        .find(|made| instead(made).unwrap_or(false));
    Ok(found.map(|made| made.name))
}

/// Why whoever is told in quiet hours cannot be that.
async fn no_stand_in(made: &Made, state: &WebState) -> Result<Option<String>, PageError> {
    let Made::Alert(made) = made else {
        return Ok(None);
    };
    let instead = &made.quiet_instead;
    if instead.is_empty() {
        return Ok(None);
    }
    let fixed = state.alerts.destinations.iter().any(|d| d.name == *instead);
    let all = state.store.made_destinations().await?;
    let told = |kind: &str| !["hl7", "dicom"].contains(&kind);
    let known = fixed || all.iter().any(|m| m.name == *instead && told(&m.kind));
    let fits = known && *instead != made.name;
    Ok((!fits).then(|| {
        format!("quiet_instead is {instead:?}, must be another destination that is alerted")
    }))
}

/// The whole name, or why it cannot be that.
async fn name_of(
    name: &str,
    kind: &str,
    filled: &BTreeMap<String, String>,
    state: &WebState,
) -> Result<Result<String, String>, PageError> {
    if name != NEW {
        let made = one(name, state).await?;
        return Ok(if made.kind == kind {
            Ok(made.name)
        } else {
            Err("the kind of a destination cannot be changed".into())
        });
    }
    let typed = filled.get("name").map_or("", |name| name.trim());
    let full = format!("{PREFIX}{typed}");
    let all = state.store.made_destinations().await?;
    Ok(if all.iter().any(|made| made.name == full) {
        Err(format!("there is a destination {full} already"))
    } else if all.len() >= MADE_MAX {
        Err(format!("there are {MADE_MAX} destinations already"))
    } else {
        Ok(full)
    })
}
