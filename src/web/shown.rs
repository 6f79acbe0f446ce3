//! What was shown to whom and when: written beside the answers, read at `/shown`.
//!
//! A page that a person opens is noted each time. A list that renews itself is noted when its rows
//! changed, at most once a minute for each person and list: the rows between follow from the studies'
//! own histories. What a program asks for is noted when it changed, or after ten minutes. A queue of its
//! own keeps the answer from waiting for the disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::{Address, SEARCH_CHARS_MAX, parameters, value};
use super::gate::Visitor;
use super::view::Frame;
use super::words;
use crate::dicom::guard::cut;
use crate::store::accounts::digest;
use crate::store::shown::{Shown, ShownEntry};
use crate::triage::Band;
use crate::worklist::{WorklistItem, WorklistPage};

/// Entries that wait to be written; beyond it they are counted and lost.
const WAITING_MAX: usize = 1024;
/// Entries written in one go.
const BATCH_MAX: usize = 128;
/// A list that renews itself is noted at most once in so long.
const RENEWED_MS: i64 = 60_000;
/// The same answer to a program is noted again after so long.
const PROGRAM_MS: i64 = 10 * 60_000;
/// Lists that are remembered for that.
const LISTS_MAX: usize = 1024;
/// How often old entries are cut.
const CUT_EVERY: Duration = Duration::from_hours(6);
const DAY_MS: i64 = 86_400_000;
/// Longest search that is kept, in bytes.
const QUERY_BYTES_MAX: usize = 2048;

/// Who asks for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// A person who opens it.
    Person,
    /// The script of a page that renews itself.
    Script,
    /// A program, by API or FHIR.
    Program,
}

impl Asks {
    /// A page was asked for; its script asks with `fragment=1`.
    pub fn for_page(parameters: &[(String, String)]) -> Self {
        if parameters.iter().any(|(n, v)| n == "fragment" && v == "1") {
            Self::Script
        } else {
            Self::Person
        }
    }
}

/// Whether the script of a page asks, not a person.
pub(super) fn asked_by_script(req: &HttpRequest) -> bool {
    Asks::for_page(&parameters(req)) == Asks::Script
}

/// Where pages say what they showed.
#[derive(Clone)]
pub(super) struct ShownLog {
    queue: mpsc::Sender<Shown>,
    /// Taken by the one task that writes.
    written: Arc<Mutex<Option<mpsc::Receiver<Shown>>>>,
    /// Of each person and list: when it was noted last, and what it showed.
    lists: Arc<Mutex<HashMap<String, (i64, String)>>>,
    lost: Arc<AtomicU64>,
}

impl Default for ShownLog {
    fn default() -> Self {
        let (queue, written) = mpsc::channel(WAITING_MAX);
        Self {
            queue,
            written: Arc::new(Mutex::new(Some(written))),
            lists: Arc::default(),
            lost: Arc::default(),
        }
    }
}

impl ShownLog {
    fn note(&self, shown: Shown) {
        if self.queue.try_send(shown).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(lost, "the log of what was shown cannot keep up");
        }
    }

    /// Entries that could not be kept.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether a list is worth an entry.
    fn is_new(&self, list: String, shown: &str, now_ms: i64, asks: Asks) -> bool {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lists.get(&list);
        let within = |ms: i64| known.is_some_and(|(at, _)| now_ms - at < ms);
        let same = known.is_some_and(|(_, was)| *was == digest(shown));
        let known = match asks {
            Asks::Person => false,
            Asks::Script => same || within(RENEWED_MS),
            Asks::Program => same && within(PROGRAM_MS),
        };
        if known {
            return false;
        }
        if lists.len() >= LISTS_MAX {
            lists.retain(|_, (at, _)| now_ms - *at < PROGRAM_MS);
            if lists.len() >= LISTS_MAX {
                lists.clear();
            }
        }
        lists.insert(list, (now_ms, digest(shown)));
        true
    }
}

/// Writes what pages say until told to stop, and cuts what is too old.
pub(super) async fn write(state: WebState, stop: CancellationToken) {
    let taken = {
        let mut slot = state
            .shown
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        slot.take()
    };
    let Some(mut written) = taken else { return };
    let mut cut = tokio::time::interval(CUT_EVERY);
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = cut.tick() => cut_old(&state).await,
            _ = written.recv_many(&mut batch, BATCH_MAX) => keep(&state, &mut batch).await,
        }
    }
    while let Ok(shown) = written.try_recv() {
        batch.push(shown);
    }
    keep(&state, &mut batch).await;
}

async fn keep(state: &WebState, batch: &mut Vec<Shown>) {
    let entries = std::mem::take(batch);
    let n = entries.len() as u64;
    if let Err(e) = state.store.note_shown(entries).await {
        state.shown.lost.fetch_add(n, Ordering::Relaxed);
        tracing::error!(error = %e, n, "could not note what was shown");
    }
}

async fn cut_old(state: &WebState) {
    let days = i64::from(state.settings.worklist.shown_log_days);
    if let Err(e) = state
        .store
        .cut_shown(state.clock.now_ms() - days * DAY_MS)
        .await
    {
        tracing::error!(error = %e, "could not cut the log of what was shown");
    }
}

/// Notes a page of the list, as a person or a program got it.
pub(super) fn list(state: &WebState, who: &str, at: &Address, page: &WorklistPage, asks: Asks) {
    let rows: Vec<_> = page
        .items
        .iter()
        .map(|i| json!([i.number, i.rank, i.band, whole(i.head_start_minutes)]))
        .collect();
    let shown = json!({ "total": page.total, "page": page.page, "rows": rows });
    let what = if asks == Asks::Program { "api" } else { "list" };
    rows_of(state, who, what, at.query(), &shown, asks);
}

/// Notes the studies of which a search by FHIR gave something.
pub(super) fn fhir(state: &WebState, who: &str, search: String, numbers: &[i64]) {
    if !numbers.is_empty() {
        let shown = json!({ "rows": numbered(numbers) });
        rows_of(state, who, "fhir", search, &shown, Asks::Program);
    }
}

/// Notes the studies that the intake page names.
pub(super) fn intake(state: &WebState, who: &str, numbers: &[i64], asks: Asks) {
    let shown = json!({ "rows": numbered(numbers) });
    rows_of(state, who, "intake", String::new(), &shown, asks);
}

/// Each with its place. A row begins with the study's number: `store::disclosed` looks for it.
fn numbered(numbers: &[i64]) -> Vec<(i64, usize)> {
    numbers.iter().copied().zip(1..).collect()
}

fn rows_of(
    state: &WebState,
    who: &str,
    what: &'static str,
    query: String,
    shown: &serde_json::Value,
    asks: Asks,
) {
    let now_ms = state.clock.now_ms();
    let list = digest(&format!("{what}\n{who}\n{query}\n{}", shown["page"]));
    let shown_json = shown.to_string();
    if !state.shown.is_new(list, &shown_json, now_ms, asks) {
        return;
    }
    let query = cut(query, QUERY_BYTES_MAX);
    state.shown.note(Shown {
        at_ms: now_ms,
        who: who.to_owned(),
        what,
        study_id: None,
        query: Some(query).filter(|q| !q.is_empty()),
        settings_version: state.ranker.rules().version,
        shown_json,
    });
}

/// Notes the page of a study.
pub(super) fn study(state: &WebState, visitor: &Visitor, item: &WorklistItem, version: i64) {
    let reasons: Vec<&str> = item.reasons.iter().map(|r| r.code.as_str()).collect();
    let shown = json!({
        "rank": item.rank,
        "band": item.band,
        "head_start_minutes": whole(item.head_start_minutes),
        "probability": item.p_abnormal.map(words::probability_band),
        "reasons": reasons,
    });
    one(
        state,
        visitor,
        "study",
        item.number,
        version,
        shown.to_string(),
    );
}

/// Notes a study of the audit sample: what was said of it was not shown.
pub(super) fn audit(state: &WebState, visitor: &Visitor, number: i64) {
    let version = state.ranker.rules().version;
    one(state, visitor, "audit", number, version, "{}".to_owned());
}

/// Notes a page of studies that were read otherwise than screening said.
pub(super) fn opinions(state: &WebState, visitor: &Visitor, url: &str, numbers: &[i64]) {
    state.shown.note(Shown {
        at_ms: state.clock.now_ms(),
        who: visitor.user.name.clone(),
        what: "opinions",
        study_id: None,
        query: Some(url.to_owned()),
        settings_version: state.ranker.rules().version,
        shown_json: json!({ "studies": numbered(numbers) }).to_string(),
    });
}

fn one(
    state: &WebState,
    visitor: &Visitor,
    what: &'static str,
    number: i64,
    version: i64,
    shown_json: String,
) {
    state.shown.note(Shown {
        at_ms: state.clock.now_ms(),
        who: visitor.user.name.clone(),
        what,
        study_id: Some(number),
        query: None,
        settings_version: version,
        shown_json,
    });
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "minutes, bounded by the caps"
)]
fn whole(minutes: f64) -> i64 {
    minutes.round() as i64
}

#[derive(Template)]
#[template(path = "shown.html")]
struct ShownPage {
    frame: Frame,
    entries: Vec<Entry>,
    study: String,
    who: String,
    kept_days: u32,
    older: Option<String>,
}

struct Entry {
    at: String,
    who: String,
    what: &'static str,
    /// The study, or the list's address.
    href: Option<String>,
    link: String,
    shown: String,
    version: i64,
}

/// `/shown?study=UID&who=NAME`
pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let text = |name: &str| value(&given, name).map(str::trim);
    for name in ["study", "who"] {
        if text(name).is_some_and(|t| t.chars().count() > SEARCH_CHARS_MAX || t.contains('\0')) {
            let detail = format!("{name} must have at most {SEARCH_CHARS_MAX} characters.");
            return Err(Problem::bad_request("bad_search", detail).into());
        }
    }
    let until = text("until").and_then(|t| t.parse::<i64>().ok());
    let (study, who) = (text("study"), text("who"));
    let until_ms = until.unwrap_or_else(|| state.clock.now_ms());
    let number = match study {
        Some(uid) => state.store.study_number(uid).await?,
        None => None,
    };
    let entries = state.store.shown(study, who, until_ms).await?;
    let older = entries.last().filter(|_| entries.len() >= 200).map(|last| {
        let keep =
            |name: &str| text(name).map(|t| format!("{name}={}&", super::filters::encoded(t)));
        let (study, who) = (keep("study"), keep("who"));
        format!(
            "/shown?{}{}until={}",
            study.unwrap_or_default(),
            who.unwrap_or_default(),
            last.at_ms
        )
    });
    html(&ShownPage {
        frame: Frame::new("What was shown", "shown", &visitor, &state),
        entries: entries.iter().map(|e| entry(e, number, &state)).collect(),
        study: study.unwrap_or_default().to_owned(),
        who: who.unwrap_or_default().to_owned(),
        kept_days: state.settings.worklist.shown_log_days,
        older,
    })
}

fn entry(e: &ShownEntry, number: Option<i64>, state: &WebState) -> Entry {
    let shown: serde_json::Value = serde_json::from_str(&e.shown_json).unwrap_or_default();
    let (what, href, link) = match (e.what.as_str(), &e.study_uid) {
        ("study", Some(uid)) => ("Study", Some(format!("/studies/{uid}")), uid.clone()),
        ("opinions", _) => {
            let url = e.query.clone().unwrap_or_default();
            ("Second opinion", Some(url.clone()), url)
        }
        ("audit", Some(uid)) => ("Audit sample", None, uid.clone()),
        ("fhir", _) => ("FHIR", None, e.query.clone().unwrap_or_default()),
        ("intake", _) => ("Intake", Some("/intake".to_owned()), "/intake".to_owned()),
        (what, _) => {
            let at = Address::parse(e.query.as_deref().unwrap_or_default());
            let text = e
                .query
                .clone()
                .unwrap_or_else(|| "all open studies".to_owned());
            let way = if what == "api" { "API" } else { "List" };
            (way, Some(at.url()), text)
        }
    };
    Entry {
        at: words::exact_time(e.at_ms, state.settings.time_zone),
        who: e.who.clone(),
        what,
        href,
        link,
        shown: said(&e.what, &shown, number),
        version: e.settings_version,
    }
}

/// What was to be seen, in words.
fn said(what: &str, shown: &serde_json::Value, number: Option<i64>) -> String {
    let band = |value: &serde_json::Value| {
        let band = value.as_str().and_then(Band::parse);
        band.map_or("unknown", words::band)
    };
    match what {
        "opinions" => {
            let n = shown["studies"].as_array().map_or(0, Vec::len);
            format!("{n} studies, with highest band and what they were read as")
        }
        "fhir" | "intake" => {
            let n = shown["rows"].as_array().map_or(0, Vec::len);
            words::studies(n as u64, "")
        }
        "audit" => "Nothing of what screening said".to_owned(),
        "study" => {
            let place = match shown["rank"].as_i64() {
                Some(rank) if rank > 0 => format!("place {rank}, "),
                _ => "not on the list, ".to_owned(),
            };
            let probability = match shown["probability"].as_str() {
                Some(text) => format!(", probability {text}"),
                None => String::new(),
            };
            format!(
                "{place}{}, head start {} min{probability}",
                band(&shown["band"]),
                shown["head_start_minutes"]
            )
        }
        _ => {
            let rows = shown["rows"].as_array().cloned().unwrap_or_default();
            let of_study = rows
                .iter()
                .find(|row| row[0].as_i64() == number && number.is_some());
            match of_study {
                Some(row) => format!(
                    "place {}, {}, head start {} min; page {} of {} studies",
                    row[1],
                    band(&row[2]),
                    row[3],
                    shown["page"],
                    shown["total"]
                ),
                None => format!(
                    "{} rows, page {} of {} studies",
                    rows.len(),
                    shown["page"],
                    shown["total"]
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_script_asks_with_fragment_1_and_nothing_else_does() {
        for (query, expected) in [
            ("", false),
            ("?fragment", false),
            ("?fragment=0", false),
            ("?fragment=11", false),
            ("?a_fragment=1", false),
            ("?fragment=1", true),
            ("?q=family&fragment=1", true),
        ] {
            let req = TestRequest::with_uri(&format!("/worklist{query}")).to_http_request();
            assert_eq!(asked_by_script(&req), expected, "{query}");
        }
    }

    #[test]
    fn a_list_that_renews_itself_is_noted_when_it_changed_and_not_all_the_time() {
        let log = ShownLog::default();
        let new = |shown: &str, at_ms: i64, asks: Asks| {
            log.is_new("anna\n/worklist".to_owned(), shown, at_ms, asks)
        };
        assert!(new("a", 0, Asks::Person));
        assert!(new("a", 1, Asks::Person), "a person looks again");
        assert!(!new("b", 2, Asks::Script), "not a minute ago");
        assert!(new("b", RENEWED_MS + 2, Asks::Script));
        assert!(!new("b", 3 * RENEWED_MS, Asks::Script), "nothing changed");
        assert!(new("c", 3 * RENEWED_MS, Asks::Script));
    }

    #[test]
    fn what_a_program_asks_for_is_noted_when_it_changed_and_now_and_then() {
        let log = ShownLog::default();
        let new = |shown: &str, at_ms: i64| {
            log.is_new("dash\n/worklist".to_owned(), shown, at_ms, Asks::Program)
        };
        assert!(new("a", 0));
        assert!(!new("a", PROGRAM_MS - 1));
        assert!(new("b", PROGRAM_MS - 1), "somebody else stood in it");
        assert!(new("a", PROGRAM_MS));
        assert!(!new("a", PROGRAM_MS + 1));
        assert!(new("a", 2 * PROGRAM_MS));
    }

    #[test]
    fn each_row_begins_with_the_study_s_number() {
        let rows = json!({ "rows": numbered(&[12, 7]) }).to_string();
        assert_eq!(rows, "{\"rows\":[[12,1],[7,2]]}");
    }

    #[test]
    fn the_lists_that_are_remembered_are_bounded() {
        let log = ShownLog::default();
        for n in 0..3 * LISTS_MAX {
            assert!(log.is_new(format!("{n}"), "a", 0, Asks::Script));
        }
        assert!(log.lists.lock().unwrap().len() <= LISTS_MAX);
    }
}
