//! `/settings`: the ranking settings in force, what others would do, and putting them in force.
//!
//! Trying is a GET: the values stand in the address, nothing is kept. Applying is a form that names
//! the version it was tried on, so that two administrators do not overwrite each other unseen.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::{parameters, value};
use super::gate::{self, Visitor};
use super::view::Frame;
use super::words;
use crate::simulation::{REPEATS, SiteWait};
use crate::store::accounts::Role;
use crate::store::settings::{Applied, SettingsVersion};
use crate::triage::TriageSettings;
use crate::worklist::display_name;
use crate::worklist::what_if::{self, DAYS_BACK, Moved, OpenList, Pace, Past, STUDIES_MAX};

/// Longest reason for a change, in characters.
const NOTE_CHARS_MAX: usize = 300;
/// Readers at a time, unless said otherwise.
const READERS_DEFAULT: usize = 2;
/// Most readers that can be tried.
const READERS_MAX: usize = 50;
/// Share of the readers' time, unless minutes a study are given.
const LOAD_DEFAULT: f64 = 0.8;

/// Each setting: its name, what it is called, and its unit.
const FIELDS: [(&str, &str, &str); 10] = [
    (
        "k_minutes_per_logit",
        "Head start per unit of log-odds",
        "min",
    ),
    ("p_floor", "Probability without head start", "0 to 1"),
    ("ai_cap_minutes", "Most that screening earns", "min"),
    ("findings_cap_minutes", "Most that findings earn", "min"),
    ("site_rules_cap_minutes", "Most that site rules earn", "min"),
    ("stat_minutes", "STAT order", "min"),
    ("asap_minutes", "ASAP order", "min"),
    ("urgent_from_minutes", "Urgent from", "min"),
    ("elevated_from_minutes", "Elevated from", "min"),
    ("site_prevalence", "Abnormal studies at this site", "0 to 1"),
];

#[derive(Template)]
#[template(path = "ranking.html")]
struct RankingPage {
    frame: Frame,
    version: i64,
    since: String,
    by: String,
    fields: Vec<Field>,
    readers: String,
    read_minutes: String,
    /// What is wrong with the values.
    problem: Option<String>,
    /// These were applied just now.
    applied: Option<i64>,
    tried: Option<Tried>,
    history: Vec<Version>,
    may_apply: bool,
    note_chars_max: usize,
    days_back: i64,
    repeats: usize,
}

struct Field {
    name: &'static str,
    text: &'static str,
    unit: &'static str,
    in_force: String,
    value: String,
    changed: bool,
}

/// What other values would do.
struct Tried {
    /// Nothing but what is in force already.
    same: bool,
    bounds: [String; 2],
    open: Open,
    past: Option<PastShown>,
    no_past: Option<String>,
}

struct Open {
    studies: String,
    moved: usize,
    bands: Vec<(&'static str, &'static str, [usize; 2])>,
    tables: Vec<Places>,
}

struct Places {
    title: &'static str,
    rows: Vec<PlaceRow>,
}

struct PlaceRow {
    study_uid: String,
    name: String,
    place: [usize; 2],
    minutes: [String; 2],
    band: [&'static str; 2],
    band_text: [&'static str; 2],
}

struct PastShown {
    studies: String,
    read_minutes: String,
    load: String,
    overloaded: bool,
    groups: Vec<GroupRow>,
}

struct GroupRow {
    name: &'static str,
    count: usize,
    /// First come, now, then: mean, 95th percentile, longest.
    waits: [[String; 3]; 3],
    change: String,
    /// better, worse or unsure.
    verdict: &'static str,
    verdict_text: &'static str,
}

struct Version {
    number: i64,
    at: String,
    by: String,
    note: String,
    changes: String,
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let versions = state.store.settings_versions().await?;
    // another process may have put others in force
    let newest = versions.iter().find(|v| v.settings.is_some());
    let (in_force, version) = newest.map_or_else(
        || {
            let rules = state.ranker.rules();
            (rules.settings.clone(), rules.version)
        },
        |v| (v.settings.clone().unwrap_or_default(), v.version),
    );
    let wanted = wanted(&in_force, &given);
    let asked = FIELDS
        .iter()
        .any(|(name, ..)| value(&given, name).is_some());
    let room = room(&given);
    let mut problem = None;
    let tried = match (&wanted, room) {
        (Ok(wanted), Ok((readers, pace))) if asked => {
            Some(try_out(&state, &in_force, wanted, readers, pace).await?)
        }
        (Err(why), _) => {
            problem = Some(why.clone());
            None
        }
        (_, Err(why)) => {
            problem = Some(why);
            None
        }
        _ => None,
    };
    let zone = state.settings.time_zone;
    html(&RankingPage {
        frame: Frame::new("Settings", "settings", &visitor, &state),
        version,
        since: newest.map_or_else(String::new, |v| words::exact_time(v.at_ms, zone)),
        by: newest.map_or_else(String::new, |v| v.by.clone()),
        fields: fields(&in_force, &given),
        readers: value(&given, "readers")
            .map_or_else(|| READERS_DEFAULT.to_string(), str::to_owned),
        read_minutes: value(&given, "read_minutes").unwrap_or_default().to_owned(),
        problem,
        applied: value(&given, "applied")
            .and_then(|v| v.parse().ok())
            .filter(|v| *v == version),
        tried,
        history: history(&versions, &state),
        may_apply: visitor.user.role == Role::Admin,
        note_chars_max: NOTE_CHARS_MAX,
        days_back: DAYS_BACK,
        repeats: REPEATS,
    })
}

/// `POST /settings`
pub(super) async fn apply(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: web::Form<Vec<(String, String)>>,
) -> Result<HttpResponse, PageError> {
    gate::check_csrf(value(&form, "csrf").unwrap_or_default(), &visitor)?;
    let rules = state.ranker.rules();
    let complete = FIELDS.iter().all(|(name, ..)| value(&form, name).is_some());
    let based_on = value(&form, "based_on").and_then(|v| v.parse::<i64>().ok());
    let (true, Some(based_on)) = (complete, based_on) else {
        let detail = "The form did not come whole. Try the values again, then apply them.";
        return Err(Problem::unprocessable("not_whole", detail).into());
    };
    let settings = wanted(&rules.settings, &form)
        .map_err(|why| Problem::unprocessable("bad_settings", format!("{why}.")))?;
    let note = value(&form, "note").unwrap_or_default().trim();
    if note.is_empty() || note.chars().count() > NOTE_CHARS_MAX || note.contains('\0') {
        let detail = format!("Say why, in at most {NOTE_CHARS_MAX} characters.");
        return Err(Problem::unprocessable("no_reason", detail).into());
    }
    let applied = state.store.apply_settings(
        &settings,
        based_on,
        &visitor.user.name,
        Some(note),
        &state.ranker,
        state.clock.now_ms(),
    );
    match applied.await? {
        Applied::Done { version, rekeyed } => {
            tracing::info!(
                version,
                rekeyed,
                "ranking settings were applied on the page"
            );
            state.news.tell_of_everything();
            Ok(HttpResponse::SeeOther()
                .insert_header((header::LOCATION, format!("/settings?applied={version}")))
                .finish())
        }
        Applied::Outdated(other) => {
            let detail = format!(
                "Version {other} was put in force meanwhile. Look at it and try your values on it."
            );
            Err(Problem::new(StatusCode::CONFLICT, "outdated", detail).into())
        }
        Applied::Same => {
            let detail = "These values are in force already.";
            Err(Problem::unprocessable("same", detail).into())
        }
    }
}

/// The settings in force with the given values in place of theirs.
fn wanted(in_force: &TriageSettings, given: &[(String, String)]) -> Result<TriageSettings, String> {
    let mut map = as_map(in_force);
    for (name, text, _) in FIELDS {
        let Some(typed) = value(given, name) else {
            continue;
        };
        let number: Option<f64> = typed.trim().replace(',', ".").parse().ok();
        let Some(number) = number.filter(|n| n.is_finite()) else {
            return Err(format!("{text}: {typed:?} is no number"));
        };
        map.insert(name.to_owned(), number.into());
    }
    let settings: TriageSettings = serde_json::from_value(map.into()).map_err(|e| e.to_string())?;
    settings.check()?;
    Ok(settings)
}

fn as_map(settings: &TriageSettings) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}

fn room(given: &[(String, String)]) -> Result<(usize, Pace), String> {
    let readers = match value(given, "readers") {
        None => READERS_DEFAULT,
        Some(typed) => typed
            .parse()
            .ok()
            .filter(|n| (1..=READERS_MAX).contains(n))
            .ok_or_else(|| format!("Readers must be a whole number from 1 to {READERS_MAX}"))?,
    };
    let pace = match value(given, "read_minutes") {
        None => Pace::Load(LOAD_DEFAULT),
        Some(typed) => Pace::Minutes(
            typed
                .replace(',', ".")
                .parse()
                .ok()
                .filter(|n| (0.1..=240.0).contains(n))
                .ok_or("Minutes for one study must be from 0.1 to 240, or be left out")?,
        ),
    };
    Ok((readers, pace))
}

fn fields(in_force: &TriageSettings, given: &[(String, String)]) -> Vec<Field> {
    let map = as_map(in_force);
    let field = |(name, text, unit)| {
        let current = map.get(name).and_then(serde_json::Value::as_f64);
        let in_force = current.map_or_else(String::new, |n| n.to_string());
        let typed = value(given, name).map_or_else(|| in_force.clone(), str::to_owned);
        Field {
            name,
            text,
            unit,
            changed: typed.trim().parse::<f64>().ok() != current,
            value: typed,
            in_force,
        }
    };
    FIELDS.into_iter().map(field).collect()
}

async fn try_out(
    state: &WebState,
    in_force: &TriageSettings,
    wanted: &TriageSettings,
    readers: usize,
    pace: Pace,
) -> Result<Tried, PageError> {
    let _place = state.heavy()?;
    let open = state.store.open_candidates(STUDIES_MAX).await?;
    let since_ms = state.clock.now_ms() - DAYS_BACK * 86_400_000;
    let studies = state.store.past_candidates(since_ms, STUDIES_MAX).await?;
    let (now, then) = (in_force.clone(), wanted.clone());
    let computed = web::block(move || {
        let list = what_if::open_list(&open, &now, &then);
        (list, what_if::past(&studies, &now, &then, readers, pace))
    });
    let (list, past) = computed.await.map_err(|e| Problem::internal(&e))?;
    let (past, no_past) = match past {
        Ok(past) => (Some(past_shown(&past)), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Tried {
        same: in_force == wanted,
        bounds: [in_force, wanted].map(|s| s.overtaking_bound_minutes().to_string()),
        open: open_shown(list),
        past,
        no_past,
    })
}

fn open_shown(list: OpenList) -> Open {
    let rows = |moved: Vec<Moved>| moved.into_iter().map(place_row).collect::<Vec<_>>();
    let tables = [
        ("The list would begin with", rows(list.first)),
        ("Up most", rows(list.up)),
        ("Down most", rows(list.down)),
    ];
    Open {
        studies: words::studies(list.studies as u64, "open "),
        moved: list.moved,
        bands: list
            .bands
            .into_iter()
            .map(|(band, counts)| (band.as_str(), words::band(band), counts))
            .collect(),
        tables: tables
            .into_iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(title, rows)| Places { title, rows })
            .collect(),
    }
}

fn place_row(moved: Moved) -> PlaceRow {
    let name = moved.patient_name.as_deref().map(display_name);
    PlaceRow {
        name: name
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "No name".to_owned()),
        place: moved.place,
        minutes: moved.minutes.map(|m| format!("{m:.0}")),
        band: moved.band.map(crate::triage::Band::as_str),
        band_text: moved.band.map(words::band),
        study_uid: moved.study_uid,
    }
}

fn past_shown(past: &Past) -> PastShown {
    let wait = |w: &SiteWait| [w.mean, w.p95, w.max].map(words::wait_minutes);
    let groups = past.groups.iter().map(|group| {
        let w = &group.waits;
        let [change, low, high] = w.change;
        let (verdict, verdict_text) = if high < 0.0 {
            ("better", "shorter")
        } else if low > 0.0 {
            ("worse", "longer")
        } else {
            ("unsure", "no clear change")
        };
        GroupRow {
            name: group.name,
            count: w.count,
            waits: [wait(&w.first_come), wait(&w.now), wait(&w.then)],
            change: format!(
                "{} ({} to {})",
                words::signed(change),
                words::signed(low),
                words::signed(high)
            ),
            verdict,
            verdict_text,
        }
    });
    PastShown {
        studies: words::studies(past.studies as u64, ""),
        read_minutes: words::wait_minutes(past.read_minutes),
        load: format!("{:.0}", past.load * 100.0),
        overloaded: past.load >= 1.0,
        groups: groups.collect(),
    }
}

fn history(versions: &[SettingsVersion], state: &WebState) -> Vec<Version> {
    let zone = state.settings.time_zone;
    let older = versions.iter().skip(1).map(Some).chain([None]);
    let shown = versions.iter().zip(older).map(|(version, older)| Version {
        number: version.version,
        at: words::exact_time(version.at_ms, zone),
        by: version.by.clone(),
        note: version.note.clone().unwrap_or_default(),
        changes: changes(version, older),
    });
    shown.collect()
}

/// "Head start per unit of log-odds 30 to 20 min".
fn changes(version: &SettingsVersion, older: Option<&SettingsVersion>) -> String {
    let Some(settings) = &version.settings else {
        return "This version of firstread cannot read it".to_owned();
    };
    let Some(before) = older.and_then(|o| o.settings.as_ref()) else {
        return "The first that is known".to_owned();
    };
    let (now, before) = (as_map(settings), as_map(before));
    let changed: Vec<String> = FIELDS
        .iter()
        .filter(|(name, ..)| now.get(*name) != before.get(*name))
        .map(|(name, text, unit)| {
            let of = |map: &serde_json::Map<String, serde_json::Value>| {
                let number = map.get(*name).and_then(serde_json::Value::as_f64);
                number.map_or_else(|| "?".to_owned(), |n| n.to_string())
            };
            let unit = if *unit == "min" { " min" } else { "" };
            format!("{text}: {} to {}{unit}", of(&before), of(&now))
        })
        .collect();
    if changed.is_empty() {
        "Nothing".to_owned()
    } else {
        changed.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        owned.collect()
    }

    #[test]
    fn every_setting_has_a_field() {
        let map = as_map(&TriageSettings::default());
        let names: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();
        let mut settings: Vec<&str> = map.keys().map(String::as_str).collect();
        settings.sort_by_key(|name| names.iter().position(|n| n == name));
        assert_eq!(settings, names);
    }

    #[test]
    fn values_take_the_place_of_those_in_force() {
        let in_force = TriageSettings::default();
        let changed = wanted(&in_force, &given(&[("k_minutes_per_logit", "20")])).unwrap();
        assert_eq!(changed.k_minutes_per_logit, 20.0);
        assert_eq!(changed.ai_cap_minutes, in_force.ai_cap_minutes);
        assert_eq!(wanted(&in_force, &[]), Ok(in_force.clone()));
        for (pairs, says) in [
            (("p_floor", "none"), "no number"),
            (("p_floor", "NaN"), "no number"),
            (("ai_cap_minutes", "-1"), "ai_cap_minutes"),
            (("elevated_from_minutes", "171"), "urgent_from_minutes"),
        ] {
            let told = wanted(&in_force, &given(&[pairs])).unwrap_err();
            assert!(told.contains(says), "{pairs:?}: {told}");
        }
    }

    #[test]
    fn the_room_is_bounded() {
        assert_eq!(room(&[]), Ok((2, Pace::Load(0.8))));
        let fine = given(&[("readers", "3"), ("read_minutes", "7,5")]);
        assert_eq!(room(&fine), Ok((3, Pace::Minutes(7.5))));
        for bad in [("readers", "0"), ("readers", "51"), ("read_minutes", "0")] {
            assert!(room(&given(&[bad])).is_err(), "{bad:?}");
        }
    }
}
