//! `/trail`: the audit trail with filters, and its export as CSV or JSON lines.

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use chrono::{NaiveDate, TimeZone as _};
use futures_util::{Stream, StreamExt as _, stream};

use super::super::WebState;
use super::super::answer::{PageError, Problem, html};
use super::super::filters::{SEARCH_CHARS_MAX, encoded, parameters, value};
use super::super::gate::Visitor;
use super::super::view::Frame;
use super::note;
use super::words::{CHOICES, Row, row};
use crate::store::StoreError;
use crate::store::trail::{Entry, PAGE_ENTRIES, Wanted};

/// Entries on a page.
const SHOWN: u64 = 100;
/// Names of the filters.
const FILTERS: [&str; 8] = [
    "actor", "action", "outcome", "study", "patient", "issuer", "from", "until",
];

#[derive(Template)]
#[template(path = "trail.html")]
struct TrailPage {
    frame: Frame,
    rows: Vec<Row>,
    actor: String,
    action: String,
    outcome: String,
    study: String,
    patient: String,
    from: String,
    until: String,
    choices: [(&'static str, &'static str); 12],
    older: Option<String>,
    csv: String,
    jsonl: String,
    /// Place and digest of the last entry.
    head: (i64, String),
}

/// The filters of an address.
pub(super) struct Asked {
    given: Vec<(String, String)>,
    pub wanted: Wanted,
}

impl Asked {
    pub(super) fn read(req: &HttpRequest, state: &WebState) -> Result<Self, Problem> {
        let given = parameters(req);
        let text = |name: &str| value(&given, name).map(str::trim);
        for name in FILTERS {
            let bad = |t: &str| t.chars().count() > SEARCH_CHARS_MAX || t.contains('\0');
            if text(name).is_some_and(bad) {
                let detail = format!("{name} must have at most {SEARCH_CHARS_MAX} characters.");
                return Err(Problem::bad_request("bad_search", detail));
            }
        }
        let owned = |name: &str| text(name).filter(|t| !t.is_empty()).map(str::to_owned);
        let day = |name: &str, plus: u64| match owned(name) {
            None => Ok(None),
            Some(text) => first_moment(&text, plus, state).map(Some).ok_or_else(|| {
                let detail = format!("{name} must be a date like 2026-11-30.");
                Problem::bad_request("bad_date", detail)
            }),
        };
        let wanted = Wanted {
            actor: owned("actor"),
            action: owned("action"),
            outcome: owned("outcome"),
            study_uid: owned("study"),
            patient_id: owned("patient"),
            patient_issuer: owned("issuer"),
            from_ms: day("from", 0)?,
            until_ms: day("until", 1)?,
        };
        Ok(Self { given, wanted })
    }

    pub(super) fn get(&self, name: &str) -> String {
        let found = value(&self.given, name).unwrap_or_default();
        found.trim().to_owned()
    }

    /// The same filters in an address, with one more parameter.
    pub(super) fn address(&self, path: &str, name: &str, more: &str) -> String {
        let filters = FILTERS.iter().filter_map(|f| {
            let text = self.get(f);
            (!text.is_empty()).then(|| format!("{f}={}&", encoded(&text)))
        });
        format!("{path}?{}{name}={more}", filters.collect::<String>())
    }
}

/// The first moment of a day, or of the day after so many.
fn first_moment(text: &str, plus_days: u64, state: &WebState) -> Option<i64> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let day = day.checked_add_days(chrono::Days::new(plus_days))?;
    let zone = state.settings.time_zone;
    let at = zone.from_local_datetime(&day.and_hms_opt(0, 0, 0)?);
    at.earliest().map(|at| at.timestamp_millis())
}

/// `/trail`
pub(in crate::web) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let before = asked.get("before").parse().unwrap_or(i64::MAX);
    let found = state
        .store
        .trail_before(&asked.wanted, before, SHOWN)
        .await?;
    let full = found.len() as u64 == SHOWN;
    let older = found.last().filter(|_| full);
    let older = older.map(|e| asked.address("/trail", "before", &e.seq.to_string()));
    let zone = state.settings.time_zone;
    html(&TrailPage {
        frame: Frame::new("Audit trail", "trail", &visitor, &state),
        rows: found.iter().map(|e| row(e, zone)).collect(),
        actor: asked.get("actor"),
        action: asked.get("action"),
        outcome: asked.get("outcome"),
        study: asked.get("study"),
        patient: asked.get("patient"),
        from: asked.get("from"),
        until: asked.get("until"),
        choices: CHOICES,
        older,
        csv: asked.address("/trail/export", "format", "csv"),
        jsonl: asked.address("/trail/export", "format", "jsonl"),
        head: state.store.trail_head().await?,
    })
}

/// `/trail/export?format=csv|jsonl` and the same filters: all that fits, oldest first.
pub(in crate::web) async fn export(
    req: HttpRequest,
    state: web::Data<WebState>,
) -> Result<HttpResponse, PageError> {
    let asked = Asked::read(&req, &state)?;
    let format = Format::parse(&asked.get("format"))?;
    note(&req, |n| n.subject = Some(format.extension().to_owned()));
    let found = entries(state, asked.wanted);
    Ok(download(format, "audit-trail", found))
}

/// How entries are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    JsonLines,
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::JsonLines),
            _ => {
                let detail = "format must be csv or jsonl.";
                Err(Problem::bad_request("bad_format", detail))
            }
        }
    }

    fn lines(self, entries: &[Entry]) -> String {
        match self {
            Self::Csv => entries.iter().map(Entry::csv).collect(),
            Self::JsonLines => entries.iter().map(Entry::json_line).collect(),
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
        }
    }
}

/// Some entries of an export.
pub(super) type Part = Result<Vec<Entry>, StoreError>;

/// Entries, read page by page while they are sent, up to the end there is when they are.
pub(super) fn entries(state: web::Data<WebState>, wanted: Wanted) -> impl Stream<Item = Part> {
    stream::unfold(Some(0), move |after| {
        let (state, wanted) = (state.clone(), wanted.clone());
        async move {
            let found = match state.store.trail_after(&wanted, after?).await {
                Ok(found) => found,
                Err(e) => return Some((Err(e), None)),
            };
            let last = found.last()?.seq;
            let more = found.len() as u64 == PAGE_ENTRIES;
            Some((Ok(found), more.then_some(last)))
        }
    })
}

/// An answer that is made while it is sent.
pub(super) fn download(
    format: Format,
    name: &str,
    entries: impl Stream<Item = Part> + 'static,
) -> HttpResponse {
    let head = (format == Format::Csv).then(|| Bytes::from(Entry::csv_head()));
    let lines = entries.map(move |found| {
        let found = found.map_err(std::io::Error::other);
        found.map(|entries| Bytes::from(format.lines(&entries)))
    });
    let body = stream::iter(head.map(Ok)).chain(lines);
    let file = format!("attachment; filename=\"{name}.{}\"", format.extension());
    let mut response = HttpResponse::Ok();
    response.content_type(match format {
        Format::Csv => "text/csv; charset=utf-8",
        Format::JsonLines => "application/jsonl",
    });
    if let Ok(file) = HeaderValue::from_str(&file) {
        response.insert_header((header::CONTENT_DISPOSITION, file));
    }
    response.streaming(body)
}
