//! `/studies/{uid}/report` and `.pdf`: the report of one study.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::parameters;
use super::gate::Visitor;
use super::view::Frame;
use crate::report::curves::Curve;
use crate::report::pdf::{Fonts, read_pictures, render};
use crate::report::{Content, Facts, Language, Reporter};
use crate::store::files::is_uid;

/// Size of the drawing of a curve, in its own units.
const DRAWING: [f64; 2] = [300.0, 170.0];
/// What stands around a curve in its drawing: left, top, right, below.
const AROUND: [f64; 4] = [42.0, 8.0, 10.0, 22.0];

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage {
    frame: Frame,
    study_uid: String,
    report: Content,
    curves: Vec<Drawn>,
    /// Class of each colour of the legend.
    legend: Vec<(String, String)>,
    languages: [(&'static str, &'static str); 2],
}

/// A curve as the paths of a drawing.
struct Drawn {
    title: String,
    description: String,
    outer: String,
    inner: String,
    median: String,
    frame: String,
    patient: (String, String),
    earlier: Vec<(String, String)>,
    /// From scan to scan.
    course: String,
    volume_ticks: Vec<(String, String)>,
    age_ticks: Vec<(String, String)>,
}

pub(super) async fn page(
    req: HttpRequest,
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let (facts, reporter) = facts(&state, &study_uid).await?;
    let report = reporter.content(&facts, asked(&req)?);
    let legend = report.pictures.iter().flat_map(|p| &p.legend);
    html(&ReportPage {
        frame: Frame::new(&report.title, "", &visitor, &state),
        study_uid: study_uid.into_inner(),
        curves: report.curves.iter().map(drawn).collect(),
        legend: legend
            .map(|([r, g, b], name)| (format!("#{r:02x}{g:02x}{b:02x}"), name.clone()))
            .collect(),
        languages: [("en", "English"), ("de", "Deutsch")],
        report,
    })
}

pub(super) async fn pdf(
    req: HttpRequest,
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let (facts, reporter) = facts(&state, &study_uid).await?;
    let report = reporter.content(&facts, asked(&req)?);
    let name = format!("report-{study_uid}-{}.pdf", report.language.as_str());
    let pictures = state.data.join("pictures").join(study_uid.into_inner());
    let made = web::block(move || {
        let shown = report.pictures.as_ref();
        let planes = shown.filter(|p| is_uid(&p.series_uid)).map(|p| {
            let folder = pictures.join(&p.series_uid);
            read_pictures(&folder, p)
        });
        let fonts = Fonts::read(&reporter.settings.fonts)?;
        render(&report, &planes.unwrap_or_default(), &fonts, facts.made_ms)
    });
    let failed = |why: String| {
        tracing::error!(error = why, "could not make a report");
        Problem::new(
            actix_web::http::StatusCode::SERVICE_UNAVAILABLE,
            "no_pdf",
            format!("The PDF could not be made: {why}."),
        )
    };
    let bytes = made
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(failed)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/pdf"))
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("inline; filename=\"{name}\""),
        ))
        .body(bytes))
}

async fn facts(state: &WebState, study_uid: &str) -> Result<(Facts, Arc<Reporter>), Problem> {
    let Some(reporter) = state.reporter.clone() else {
        return Err(Problem::not_found("Reports are not set up here."));
    };
    let found = state.store.report_facts(study_uid).await;
    match found.map_err(|e| Problem::internal(&e))? {
        Some(facts) if is_uid(study_uid) => Ok((facts, reporter)),
        _ => Err(Problem::not_found("No study with this UID was received.")),
    }
}

/// The language asked for; none for the site's.
fn asked(req: &HttpRequest) -> Result<Option<Language>, Problem> {
    let asked = parameters(req).into_iter().find(|(name, _)| name == "lang");
    let Some((_, text)) = asked else {
        return Ok(None);
    };
    match Language::parse(&text) {
        Some(language) => Ok(Some(language)),
        None => Err(Problem::bad_request("lang", "lang must be en or de.")),
    }
}

fn drawn(curve: &Curve) -> Drawn {
    let [left, top, right, below] = AROUND;
    let (width, height) = (DRAWING[0] - left - right, DRAWING[1] - top - below);
    let x = |across: f64| format!("{:.1}", left + width * across);
    let y = |down: f64| format!("{:.1}", top + height * down);
    let path = |points: &mut dyn Iterator<Item = &[f64; 2]>| {
        points.enumerate().fold(String::new(), |path, (i, p)| {
            let step = if i == 0 { 'M' } else { 'L' };
            format!("{path}{step}{} {}", x(p[0]), y(p[1]))
        })
    };
    let [first, fifth, median, ninety_fifth, ninety_ninth] = &curve.lines;
    let around =
        |low: &[[f64; 2]], high: &[[f64; 2]]| path(&mut low.iter().chain(high.iter().rev())) + "Z";
    Drawn {
        title: curve.title.clone(),
        description: curve.description.clone(),
        outer: around(first, ninety_ninth),
        inner: around(fifth, ninety_fifth),
        median: path(&mut median.iter()),
        frame: path(&mut [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]].iter()),
        patient: (x(curve.patient[0]), y(curve.patient[1])),
        earlier: curve.earlier.iter().map(|p| (x(p[0]), y(p[1]))).collect(),
        course: path(&mut curve.earlier.iter().chain([&curve.patient])),
        volume_ticks: curve
            .volume_ticks
            .iter()
            .map(|(down, label)| (y(*down), label.clone()))
            .collect(),
        age_ticks: curve
            .age_ticks
            .iter()
            .map(|(across, label)| (x(*across), label.clone()))
            .collect(),
    }
}
