//! `/intake`: did my study arrive? Recent studies, and objects kept aside with the reason.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, html};
use super::filters::parameters;
use super::gate::Visitor;
use super::shown::{self, Asks};
use super::view::Frame;
use super::words;
use crate::store::overview::{ArrivedStudy, KeptAside};
use crate::worklist::display_name;

/// Studies shown.
const STUDIES_SHOWN: u64 = 100;
/// Objects kept aside that are shown.
pub(super) const KEPT_ASIDE_SHOWN: u64 = 200;
/// How often the page reloads itself.
const RELOAD_SECONDS: u32 = 15;

#[derive(Template)]
#[template(path = "intake.html")]
struct IntakePage {
    frame: Frame,
    studies: Vec<Arrival>,
    kept_aside: Vec<Aside>,
    kept_aside_total: u64,
    may_read: bool,
}

struct Arrival {
    study_uid: String,
    name: String,
    patient_id: String,
    accession: String,
    description: String,
    last: String,
    series: String,
    images: i64,
    outcome: String,
    listed: &'static str,
}

/// An object kept aside, in words.
pub(super) struct Aside {
    pub at: String,
    pub from: String,
    pub reason: String,
    pub sop_uid: String,
    pub study_uid: String,
    pub kept: &'static str,
}

impl Aside {
    pub fn new(object: KeptAside, state: &WebState) -> Self {
        let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
        Self {
            at: words::clock_time(object.received_at, now_ms, zone),
            from: object.calling_ae,
            reason: object.reason,
            sop_uid: object.sop_uid,
            study_uid: object.study_uid.unwrap_or_default(),
            kept: if object.kept { "kept" } else { "not kept" },
        }
    }
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let frame = Frame {
        reload_seconds: RELOAD_SECONDS,
        ..Frame::new("Intake", "intake", &visitor, &state)
    };
    let may_read = frame.visitor.as_ref().is_some_and(|v| v.may_read);
    let studies = state.store.arrivals(STUDIES_SHOWN).await?;
    let numbers: Vec<i64> = studies.iter().map(|s| s.number).collect();
    let asks = Asks::for_page(&parameters(&req));
    shown::intake(&state, &visitor.user.name, &numbers, asks);
    let aside = state.store.kept_aside(KEPT_ASIDE_SHOWN).await?;
    html(&IntakePage {
        frame,
        studies: studies.into_iter().map(|s| arrival(s, &state)).collect(),
        kept_aside: aside.into_iter().map(|o| Aside::new(o, &state)).collect(),
        kept_aside_total: state.store.kept_aside_count().await?,
        may_read,
    })
}

fn arrival(study: ArrivedStudy, state: &WebState) -> Arrival {
    let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
    let underway = study.series_complete < study.series;
    Arrival {
        outcome: match (study.state.as_str(), study.not_analysed_reason) {
            ("received", _) if underway => "Received, images still arriving".to_owned(),
            ("received", _) => "Received, waits for screening".to_owned(),
            ("screened", _) if underway => "Screened, images still arriving".to_owned(),
            ("screened", _) => "Screened".to_owned(),
            ("failed", Some(why)) => format!("Screening failed: {why}"),
            (_, Some(why)) => format!("Not analysed: {why}"),
            (other, None) => other.to_owned(),
        },
        series: if underway {
            format!("{} ({} complete)", study.series, study.series_complete)
        } else {
            study.series.to_string()
        },
        listed: match study.reading.as_str() {
            "open" => "open",
            "read" => "read",
            _ => "prior, not listed",
        },
        name: study
            .patient_name
            .as_deref()
            .map(display_name)
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "No name".to_owned()),
        patient_id: study.patient_id.unwrap_or_default(),
        accession: study.accession.unwrap_or_default(),
        description: study.description.unwrap_or_default(),
        last: words::clock_time(study.last_received_at, now_ms, zone),
        images: study.images,
        study_uid: study.study_uid,
    }
}
