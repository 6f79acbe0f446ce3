//! `/worklist`: the list, as a page and as the fragment its script fetches.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::gate::Visitor;
use super::view::{Frame, Row};
use super::words;
use crate::store::files::is_uid;
use crate::triage::Band;
use crate::worklist::{Assignment, ITEMS_PER_PAGE, WorklistQuery};

/// Longest search text, in characters.
pub(super) const SEARCH_CHARS_MAX: usize = 200;
/// Last page that may be asked for.
pub(super) const PAGE_MAX: u64 = 1_000_000;
/// Values of `assigned`.
const ME: &str = "me";
const UNASSIGNED: &str = "unassigned";
/// How often the page reloads itself where there is no JavaScript.
const RELOAD_SECONDS: u32 = 30;

/// Bands that the list can be filtered by, most urgent first.
const BANDS: [Band; 5] = [
    Band::Critical,
    Band::Urgent,
    Band::Elevated,
    Band::Routine,
    Band::Pending,
];

#[derive(Template)]
#[template(path = "worklist.html")]
struct ListPage {
    frame: Frame,
    list: List,
}

#[derive(Template)]
#[template(path = "worklist_list.html")]
struct Fragment {
    frame: Frame,
    list: List,
}

struct List {
    rows: Vec<Row>,
    total_text: String,
    page: u64,
    pages: u64,
    q: String,
    band: &'static str,
    assigned: &'static str,
    filters: Vec<Filter>,
    /// Whose studies.
    whose: Vec<Filter>,
    /// The study that was marked read just now, to be undone: UID and name.
    undo: Option<(String, String)>,
    /// The reader asked for the next case and there is none.
    none_left: bool,
    now_ms: i64,
    now: String,
    /// Bound on overtaking, minutes.
    bound_minutes: f64,
    /// This list in the address bar, without the page.
    base: String,
}

struct Filter {
    value: &'static str,
    text: &'static str,
    href: String,
    here: bool,
    count: u64,
}

/// Name and value of each parameter, once; what cannot be read is left out.
pub(super) fn parameters(req: &HttpRequest) -> Vec<(String, String)> {
    web::Query::<Vec<(String, String)>>::from_query(req.query_string())
        .map(web::Query::into_inner)
        .unwrap_or_default()
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = parameters
        .iter()
        .filter(|(n, v)| n == name && !v.is_empty());
    found.next().map(|(_, v)| v.as_str())
}

/// Reads `band`, `q`, `assigned` and `page`; `me` is the account that asks.
pub(super) fn query(parameters: &[(String, String)], me: &str) -> Result<WorklistQuery, Problem> {
    let value = |name: &str| value(parameters, name);
    let band = value("band")
        .map(|text| {
            Band::parse(text).ok_or_else(|| {
                let all: Vec<&str> = BANDS.iter().map(|b| b.as_str()).collect();
                let detail = format!("band must be one of {}, or be left out.", all.join(", "));
                Problem::bad_request("unknown_band", detail)
            })
        })
        .transpose()?;
    let page = value("page").unwrap_or("1").parse::<u64>().ok();
    let Some(page) = page.filter(|p| (1..=PAGE_MAX).contains(p)) else {
        let detail = format!("page must be a whole number from 1 to {PAGE_MAX}.");
        return Err(Problem::bad_request("bad_page", detail));
    };
    let q = value("q").map(str::trim).filter(|q| !q.is_empty());
    if q.is_some_and(|q| q.chars().count() > SEARCH_CHARS_MAX || q.contains('\0')) {
        let detail = format!("q must have at most {SEARCH_CHARS_MAX} characters and no NUL.");
        return Err(Problem::bad_request("bad_search", detail));
    }
    let assigned = match value("assigned") {
        None => None,
        Some(ME) => Some(Assignment::Reader(me.to_owned())),
        Some(UNASSIGNED) => Some(Assignment::Nobody),
        Some(_) => {
            let detail = format!("assigned must be {ME} or {UNASSIGNED}, or be left out.");
            return Err(Problem::bad_request("unknown_assigned", detail));
        }
    };
    Ok(WorklistQuery {
        assigned,
        band,
        q: q.map(str::to_owned),
        page,
    })
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let parameters = parameters(&req);
    let asked = query(&parameters, &visitor.user.name)?;
    let frame = Frame {
        reload_seconds: RELOAD_SECONDS,
        ..Frame::new("Worklist", "worklist", &visitor, &state)
    };
    let list = List {
        undo: undo(&state, &visitor, value(&parameters, "read")).await?,
        none_left: value(&parameters, "none").is_some(),
        ..list(&state, &visitor, asked).await?
    };
    if parameters.iter().any(|(n, v)| n == "fragment" && v == "1") {
        html(&Fragment { frame, list })
    } else {
        html(&ListPage { frame, list })
    }
}

/// The study that this visitor marked read, if it still is.
async fn undo(
    state: &WebState,
    visitor: &Visitor,
    study_uid: Option<&str>,
) -> Result<Option<(String, String)>, PageError> {
    let Some(study_uid) = study_uid.filter(|uid| visitor.may_work() && is_uid(uid)) else {
        return Ok(None);
    };
    let found = state
        .store
        .study_detail(study_uid, state.held_since_ms())
        .await?;
    let read = found.filter(|study| study.reading == "read");
    Ok(read.map(|study| {
        let row = Row::new(&study.item, &visitor.user.name, state);
        (row.study_uid, row.name)
    }))
}

async fn list(
    state: &WebState,
    visitor: &Visitor,
    mut asked: WorklistQuery,
) -> Result<List, PageError> {
    let me = &visitor.user.name;
    let held_since_ms = state.held_since_ms();
    let mut found = state.store.worklist(&asked, held_since_ms).await?;
    let pages = found.total.div_ceil(ITEMS_PER_PAGE).max(1);
    if asked.page > pages {
        // the list became shorter: show its end, not an empty page
        asked.page = pages;
        found = state.store.worklist(&asked, held_since_ms).await?;
    }
    let counts = state.store.open_studies_by_band().await?;
    let claims = state.store.claim_counts(state.acting(me)).await?;
    let band = asked.band.map_or("", Band::as_str);
    let assigned = match asked.assigned {
        None => "",
        Some(Assignment::Reader(_)) => ME,
        Some(Assignment::Nobody) => UNASSIGNED,
    };
    let q = asked.q.clone().unwrap_or_default();
    let count_of = |b: &str| {
        let counted = counts.iter().filter(|(name, _)| b.is_empty() || name == b);
        u64::try_from(counted.map(|(_, n)| n).sum::<i64>()).unwrap_or(0)
    };
    let filter = |value: &'static str, text: &'static str| Filter {
        value,
        text,
        href: address(value, &q, assigned),
        here: value == band,
        count: count_of(value),
    };
    let filters = std::iter::once(filter("", "All"))
        .chain(BANDS.iter().map(|b| filter(b.as_str(), words::band(*b))))
        .collect();
    let whose = |value: &'static str, text: &'static str, count: u64| Filter {
        value,
        text,
        href: address(band, &q, value),
        here: value == assigned,
        count,
    };
    let open = count_of("");
    let whose = vec![
        whose("", "Anyone's", open),
        whose(ME, "Mine", claims.mine),
        whose(UNASSIGNED, "Unclaimed", open.saturating_sub(claims.held)),
    ];
    let now_ms = state.clock.now_ms();
    Ok(List {
        rows: found
            .items
            .iter()
            .map(|item| Row::new(item, me, state))
            .collect(),
        total_text: if found.total == 1 {
            "1 open study".to_owned()
        } else {
            format!("{} open studies", found.total)
        },
        page: asked.page,
        pages,
        base: address(band, &q, assigned),
        q,
        band,
        assigned,
        filters,
        whose,
        undo: None,
        none_left: false,
        now_ms,
        now: words::clock_time(now_ms, now_ms, state.settings.time_zone),
        bound_minutes: state.ranker.settings.overtaking_bound_minutes(),
    })
}

/// The address of the first page of a filtered list.
pub(super) fn address(band: &str, q: &str, assigned: &str) -> String {
    let encoded: String = q.bytes().fold(String::new(), |mut out, byte| {
        use std::fmt::Write as _;
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    });
    format!("/worklist?band={band}&q={encoded}&assigned={assigned}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<WorklistQuery, &'static str> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        query(&pairs, "anna").map_err(|p| p.code)
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        assert_eq!(read(&[("band", "high")]), Err("unknown_band"));
        assert_eq!(read(&[("assigned", "bert")]), Err("unknown_assigned"));
        assert_eq!(read(&[("page", "0")]), Err("bad_page"));
        assert_eq!(read(&[("page", "x")]), Err("bad_page"));
        assert_eq!(read(&[("q", &"x".repeat(201))]), Err("bad_search"));
    }

    #[test]
    fn mine_is_who_asks() {
        let assigned = |value| read(&[("assigned", value)]).map(|q| q.assigned);
        assert_eq!(assigned(ME), Ok(Some(Assignment::Reader("anna".into()))));
        assert_eq!(assigned(UNASSIGNED), Ok(Some(Assignment::Nobody)));
        assert_eq!(assigned(""), Ok(None));
    }

    #[test]
    fn empty_parameters_are_as_good_as_none() {
        let expected = WorklistQuery {
            page: 1,
            ..WorklistQuery::default()
        };
        assert_eq!(
            read(&[("band", ""), ("q", " "), ("page", "")]),
            Ok(expected)
        );
    }
}
