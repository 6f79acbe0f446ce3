//! `/studies/{uid}`: one study, with pictures, reasons, volumes, series and what ran.

use std::collections::BTreeSet;
use std::path::Path;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::deliveries::said;
use super::follow_up::{FollowUpView, asked};
use super::gate::Visitor;
use super::intake::{Aside, KEPT_ASIDE_SHOWN};
use super::measured::MeasuredView;
use super::reading::COMMENT_CHARS_MAX;
use super::view::{Frame, Row};
use super::{shown, words};
use crate::alerts::links::short_code;
use crate::report::Language;
use crate::report::change::not_compared;
use crate::store::feedback::takes_feedback;
use crate::store::files::is_uid;
use crate::worklist::{
    DeliveryDetail, FeedbackEntry, ScreeningDetail, SeriesDetail, StudyDetail, Verdict,
    VolumeDetail,
};

/// Largest picture that is handed out.
const PICTURE_BYTES_MAX: u64 = 16 << 20;
/// z beyond which a marker stands at the end of the scale.
const Z_SHOWN_MAX: f64 = 3.5;
/// Width of the scale in its own units.
const SCALE_WIDTH: f64 = 120.0;
/// Planes that may be asked for, with what lies over them.
const PICTURES: [&str; 27] = [
    "axial",
    "coronal",
    "sagittal",
    "axial_outline",
    "coronal_outline",
    "sagittal_outline",
    "axial_middle",
    "coronal_middle",
    "sagittal_middle",
    "axial_middle_outline",
    "coronal_middle_outline",
    "sagittal_middle_outline",
    "axial_overlay",
    "coronal_overlay",
    "sagittal_overlay",
    "measured_axial",
    "measured_coronal",
    "measured_sagittal",
    "measured_axial_overlay",
    "measured_coronal_overlay",
    "measured_sagittal_overlay",
    "lesion_axial",
    "lesion_coronal",
    "lesion_sagittal",
    "lesion_axial_overlay",
    "lesion_coronal_overlay",
    "lesion_sagittal_overlay",
];

#[derive(Template)]
#[template(path = "study.html")]
struct StudyPage {
    frame: Frame,
    row: Row,
    reading: String,
    exact_arrival: String,
    effective_arrival: String,
    study_date: String,
    referrer: String,
    images: String,
    /// Each term in whole minutes that add up to `total_minutes`.
    terms: Vec<Term>,
    total_minutes: i64,
    settings_version: i64,
    probability: Option<String>,
    /// What is shown of it by default.
    probability_band: Option<&'static str>,
    pictured: Vec<Pictured>,
    /// In two columns.
    volumes: Vec<Vec<Volume>>,
    /// What stage two measured; the coarse volumes are not shown then.
    measured: Option<MeasuredView>,
    /// Against the patient's earlier study, or why not.
    follow_up: Option<FollowUpView>,
    not_compared: Option<&'static str>,
    /// What it was read as.
    read_as: Option<String>,
    /// How far asking the PACS for earlier studies is.
    priors: Option<String>,
    volumetry: Option<String>,
    no_norms: Option<String>,
    series: Vec<SeriesDetail>,
    screenings: Vec<Ran>,
    deliveries: Vec<Told>,
    /// Whether someone may still say that they look after an alert.
    unanswered: bool,
    /// What messages call this study.
    code: String,
    kept_aside: Vec<Aside>,
    viewer: Option<String>,
    /// open, read or prior.
    reading_state: String,
    /// Minutes without activity after which a claim ends.
    idle_minutes: u32,
    /// Other accounts it can be handed over to.
    others: Vec<String>,
    comments: Vec<Comment>,
    comment_chars_max: usize,
    history: Vec<Happened>,
    now_ms: i64,
    /// How it came to be read, where no reader marked it.
    read_how: Option<String>,
    /// Orders it is read under, and those of its patient that may be meant for it.
    orders: Vec<String>,
    possible: Vec<String>,
}

struct Term {
    code: String,
    text: String,
    minutes: String,
    counts: bool,
    /// Readers may say what they think of it.
    asks: bool,
    /// What the visitor said last: agree, disagree or nothing.
    mine: &'static str,
    /// What others said last.
    others: Vec<String>,
}

struct Comment {
    who: String,
    about: String,
    text: String,
    at: String,
}

/// Something a reader did.
struct Happened {
    at: String,
    text: String,
}

/// A series of which there are pictures.
struct Pictured {
    series_uid: String,
    title: String,
    planes: Vec<String>,
    first: bool,
}

/// A line of a table of volumes.
pub(super) struct Volume {
    name: String,
    millilitres: String,
    /// Of intracranial volume.
    percent: Option<String>,
    z: Option<String>,
    percentile: Option<String>,
    /// Where the marker stands on the scale.
    x: String,
    far: bool,
    no_norm: Option<String>,
}

/// Who was told of this study.
struct Told {
    at: String,
    destination: String,
    /// The band an alert is of, or which object of ours.
    what: String,
    state: String,
    said: String,
    acknowledged: String,
}

/// What ran on a series.
struct Ran {
    series: String,
    outcome: String,
    model: String,
    provider: String,
    at: String,
    timings: String,
}

pub(super) async fn page(
    req: HttpRequest,
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let me = &visitor.user.name;
    let asked_by_person = !shown::asked_by_script(&req);
    if asked_by_person && visitor.may_work() {
        state
            .store
            .opened_study(&study_uid, state.acting(me))
            .await?;
    }
    let detail = state.store.study_detail(&study_uid, state.held_since_ms());
    let Some(study) = detail.await? else {
        return Err(Problem::not_found("No study with this UID was received.").into());
    };
    let mut others = state.store.readers().await?;
    others.retain(|name| name != me);
    let aside = state
        .store
        .kept_aside_of(&study_uid, KEPT_ASIDE_SHOWN)
        .await?;
    if asked_by_person {
        shown::study(&state, &visitor, &study.item, study.settings_version);
    }
    let row = Row::new(&study.item, me, &state);
    let zone = state.settings.time_zone;
    let minutes: Vec<f64> = study.item.reasons.iter().map(|r| r.minutes).collect();
    let whole = words::whole_minutes(&minutes);
    let (volumes, no_norms) = volume_rows(&study.volumes);
    html(&StudyPage {
        frame: Frame::new(&row.name, "", &visitor, &state),
        reading: reading(&study.reading),
        exact_arrival: words::exact_time(row.arrived_ms, zone),
        effective_arrival: words::exact_time(words::millis(&study.item.effective_arrival), zone),
        study_date: study
            .item
            .study_date
            .as_deref()
            .map(words::dicom_date)
            .unwrap_or_default(),
        referrer: study.item.referrer.clone().unwrap_or_default(),
        images: words::counted(study.item.images, "image"),
        total_minutes: whole.iter().sum(),
        terms: terms(&study, &whole, me),
        comments: comments(&study, &state),
        comment_chars_max: COMMENT_CHARS_MAX,
        history: history(&study, &state),
        now_ms: state.clock.now_ms(),
        others,
        idle_minutes: state.settings.worklist.claim_idle_minutes,
        reading_state: study.reading.clone(),
        read_how: read_how(&study),
        possible: study.possible_orders.iter().map(words::order).collect(),
        orders: study.orders.iter().map(words::order).collect(),
        settings_version: study.settings_version,
        probability: study.item.p_abnormal.map(|p| format!("{p:.3}")),
        probability_band: study.item.p_abnormal.map(words::probability_band),
        pictured: pictured(&study),
        measured: study
            .measurement
            .as_ref()
            .map(|m| MeasuredView::new(m, &study.series)),
        follow_up: study.follow_up.as_ref().map(FollowUpView::new),
        not_compared: study
            .not_compared
            .map(|why| not_compared(why, Language::En)),
        read_as: study.read_as.as_ref().map(super::opinion::read_as),
        priors: study.prior_search.as_ref().map(asked),
        volumes,
        volumetry: row.volumetry.as_deref().map(without_subject),
        no_norms,
        screenings: study
            .screenings
            .iter()
            .map(|s| ran(s, &study.series, &state))
            .collect(),
        series: study.series,
        unanswered: study.reading == "open"
            && study
                .deliveries
                .iter()
                .any(|d| d.band.is_some() && d.acknowledged_at.is_none()),
        deliveries: study
            .deliveries
            .into_iter()
            .map(|d| told(d, &state))
            .collect(),
        code: short_code(&row.study_uid),
        kept_aside: aside.into_iter().map(|o| Aside::new(o, &state)).collect(),
        viewer: viewer(&state, &row),
        row,
    })
}

fn reading(reading: &str) -> String {
    match reading {
        "open" => "Open".to_owned(),
        "read" => "Read".to_owned(),
        "prior" => "Prior: kept, not listed".to_owned(),
        other => other.to_owned(),
    }
}

/// The last word of each reader on a finding, comments left out.
fn last_words<'a>(study: &'a StudyDetail, code: &str) -> Vec<&'a FeedbackEntry> {
    let mut seen = BTreeSet::new();
    let words = study.feedback.iter();
    words
        .filter(|f| f.finding == code && f.verdict != Verdict::Comment)
        .filter(|f| seen.insert(f.who.as_str()))
        .collect()
}

fn comments(study: &StudyDetail, state: &WebState) -> Vec<Comment> {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let about = |code: &str| {
        let reason = study.item.reasons.iter().find(|r| r.code == code);
        reason.map_or_else(|| code.to_owned(), |r| words::sentence(&r.text))
    };
    let commented = study.feedback.iter().filter_map(|f| {
        Some(Comment {
            text: f.comment.clone()?,
            who: f.who.clone(),
            about: about(&f.finding),
            at: words::clock_time(words::millis(&f.at), now_ms, zone),
        })
    });
    commented.collect()
}

fn history(study: &StudyDetail, state: &WebState) -> Vec<Happened> {
    let zone = state.settings.time_zone;
    let happened = study.history.iter().map(|event| Happened {
        at: words::exact_time(words::millis(&event.at), zone),
        text: words::event(event),
    });
    happened.collect()
}

/// Who marked it read, where that was another system.
fn read_how(study: &StudyDetail) -> Option<String> {
    let last = study.history.iter().find(|event| event.what == "read")?;
    let by_system = study.reading == "read" && last.who.is_none();
    by_system.then(|| words::event(last))
}

fn terms(study: &StudyDetail, whole: &[i64], me: &str) -> Vec<Term> {
    let terms = study.item.reasons.iter().zip(whole);
    terms
        .map(|(reason, minutes)| {
            let (mine, others): (Vec<_>, Vec<_>) = last_words(study, &reason.code)
                .into_iter()
                .partition(|f| f.who == me);
            Term {
                code: reason.code.clone(),
                text: words::sentence(&reason.text),
                minutes: format!("+{minutes}"),
                counts: reason.minutes > 0.0 || reason.code == words::LOWERED,
                asks: takes_feedback(&reason.code),
                mine: mine.first().map_or("", |f| f.verdict.as_str()),
                others: others
                    .iter()
                    .map(|f| format!("{} {}s", f.who, f.verdict.as_str()))
                    .collect(),
            }
        })
        .collect()
}

fn pictured(study: &StudyDetail) -> Vec<Pictured> {
    let with_pictures = study.screenings.iter().filter(|s| !s.pictures.is_empty());
    with_pictures
        .enumerate()
        .map(|(i, screening)| Pictured {
            title: series_title(&screening.series_uid, &study.series),
            series_uid: screening.series_uid.clone(),
            planes: screening
                .pictures
                .iter()
                .filter(|p| PICTURES[..3].contains(&p.as_str()))
                .cloned()
                .collect(),
            first: i == 0,
        })
        .collect()
}

fn series_title(series_uid: &str, series: &[SeriesDetail]) -> String {
    let Some(found) = series.iter().find(|s| s.series_uid == series_uid) else {
        return series_uid.to_owned();
    };
    let number = found.number.map(|n| format!("{n} "));
    let name = found.description.as_deref().unwrap_or("No description");
    format!("{}{name}", number.unwrap_or_default())
}

/// "Volumetry done" beside the heading "Volumetry": done.
fn without_subject(volumetry: &str) -> String {
    volumetry.trim_start_matches("Volumetry ").to_owned()
}

/// The table, and the reason that all share for having no z.
pub(super) fn volume_rows(all: &[VolumeDetail]) -> (Vec<Vec<Volume>>, Option<String>) {
    let shared = common_no_norm(all);
    (volumes(all, shared.as_deref()), shared)
}

fn volumes(all: &[VolumeDetail], said_once: Option<&str>) -> Vec<Vec<Volume>> {
    let half = all.len().div_ceil(2).max(1);
    let column = |part: &[VolumeDetail]| part.iter().map(|v| volume(v, said_once)).collect();
    all.chunks(half).map(column).collect()
}

/// The reason that all volumes share for having no z: said once.
fn common_no_norm(volumes: &[VolumeDetail]) -> Option<String> {
    let first = volumes.first()?.no_norm.as_ref()?;
    let shared = volumes.iter().all(|v| v.no_norm.as_ref() == Some(first));
    shared.then(|| first.clone())
}

fn volume(v: &VolumeDetail, said_once: Option<&str>) -> Volume {
    let z = v.z.filter(|z| z.is_finite());
    let at = z.unwrap_or(0.0).clamp(-Z_SHOWN_MAX, Z_SHOWN_MAX);
    Volume {
        name: v.structure.replace('_', " "),
        millilitres: millilitres(v.volume_mm3),
        percent: v.percent_icv.map(|p| format!("{p:.2}")),
        z: z.map(words::signed),
        percentile: v.percentile.map(words::percentile),
        x: format!(
            "{:.1}",
            (at + Z_SHOWN_MAX) / (2.0 * Z_SHOWN_MAX) * SCALE_WIDTH
        ),
        far: z.is_some_and(|z| z.abs() >= 2.326),
        no_norm: v
            .no_norm
            .clone()
            .filter(|why| Some(why.as_str()) != said_once),
    }
}

/// Small structures need the second decimal.
fn millilitres(mm3: f64) -> String {
    let ml = mm3 / 1000.0;
    if ml < 10.0 {
        format!("{ml:.2}")
    } else {
        format!("{ml:.1}")
    }
}

fn ran(s: &ScreeningDetail, series: &[SeriesDetail], state: &WebState) -> Ran {
    let timings = s.timings_ms.as_object().map(|stages| {
        let stages: Vec<String> = stages
            .iter()
            .map(|(stage, ms)| format!("{} {ms} ms", stage.trim_end_matches("_ms")))
            .collect();
        stages.join(", ")
    });
    let outcome = match s.outcome.as_str() {
        "screened" => "Screened",
        "not_analysed" => "Not analysed",
        "failed" => "Failed",
        other => other,
    };
    Ran {
        series: series_title(&s.series_uid, series),
        outcome: match s.reason.as_deref() {
            Some(why) => format!("{outcome}: {why}"),
            None => outcome.to_owned(),
        },
        model: s.model.clone(),
        provider: s.provider.clone(),
        at: words::exact_time(words::millis(&s.created_at), state.settings.time_zone),
        timings: timings.unwrap_or_default(),
    }
}

fn told(d: DeliveryDetail, state: &WebState) -> Told {
    let zone = state.settings.time_zone;
    let at = |rfc3339: &str| words::exact_time(words::millis(rfc3339), zone);
    let acknowledged = d.acknowledged_at.as_deref().map(|moment| {
        let by = d.acknowledged_by.as_deref().unwrap_or("someone");
        format!("{} by {by}", at(moment))
    });
    let settled = d.settled_at.as_deref().map(at).unwrap_or_default();
    Told {
        at: at(&d.created_at),
        destination: d.destination,
        what: match (d.band, d.object.as_deref()) {
            (Some(band), _) => words::band(band).to_owned(),
            (None, Some(object)) => words::object(object).to_owned(),
            _ => String::new(),
        },
        state: match d.state.as_str() {
            "delivered" => format!("Delivered {settled}"),
            "dead" => format!("Given up {settled}"),
            "skipped" => format!("Skipped {settled}"),
            _ => format!(
                "Waits, {}",
                words::counted(d.attempts.unsigned_abs(), "attempt")
            ),
        },
        said: said(d.said, d.commitment.as_deref()),
        acknowledged: acknowledged.unwrap_or_default(),
    }
}

/// The link to the site's viewer, with this study's numbers in it.
pub(super) fn viewer(state: &WebState, row: &Row) -> Option<String> {
    let template = &state.settings.viewer_url;
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            use std::fmt::Write as _;
            if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
    };
    (!template.is_empty()).then(|| {
        template
            .replace("{study_uid}", &encode(&row.study_uid))
            .replace("{accession}", &encode(&row.accession))
            .replace("{patient_id}", &encode(&row.patient_id))
    })
}

/// A picture, from the data folder. Only UIDs and known names become a path.
pub(super) async fn picture(
    path: web::Path<(String, String, String)>,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let (study_uid, series_uid, name) = path.into_inner();
    let absent = || Problem::not_found("There is no such picture.");
    let known = PICTURES.iter().find(|p| **p == name).ok_or_else(absent)?;
    if !is_uid(&study_uid) || !is_uid(&series_uid) {
        return Err(absent().into());
    }
    let folder = state.data.join("pictures").join(study_uid).join(series_uid);
    let bytes = read(&folder.join(format!("{known}.png")))
        .await
        .ok_or_else(absent)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "image/png"))
        .body(bytes))
}

async fn read(path: &Path) -> Option<Vec<u8>> {
    let about = tokio::fs::metadata(path).await.ok()?;
    if !about.is_file() || about.len() > PICTURE_BYTES_MAX {
        return None;
    }
    tokio::fs::read(path).await.ok()
}
