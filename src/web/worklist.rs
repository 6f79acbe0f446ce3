//! `/worklist`: the list, as a page and as the fragment its script fetches.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::gate::Visitor;
use super::view::{Frame, Row};
use super::words;
use crate::triage::Band;
use crate::worklist::{ITEMS_PER_PAGE, WorklistQuery};

/// Longest search text, in characters.
pub(super) const SEARCH_CHARS_MAX: usize = 200;
/// Last page that may be asked for.
pub(super) const PAGE_MAX: u64 = 1_000_000;
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
    filters: Vec<Filter>,
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

/// Reads `band`, `q` and `page`.
pub(super) fn query(parameters: &[(String, String)]) -> Result<WorklistQuery, Problem> {
    let value = |name: &str| {
        parameters
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    };
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
    Ok(WorklistQuery {
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
    let asked = query(&parameters)?;
    let frame = Frame {
        reload_seconds: RELOAD_SECONDS,
        ..Frame::new("Worklist", "worklist", &visitor, &state)
    };
    let list = list(&state, asked).await?;
    if parameters.iter().any(|(n, v)| n == "fragment" && v == "1") {
        html(&Fragment { frame, list })
    } else {
        html(&ListPage { frame, list })
    }
}

async fn list(state: &WebState, mut asked: WorklistQuery) -> Result<List, PageError> {
    let mut found = state.store.worklist(&asked).await?;
    let pages = found.total.div_ceil(ITEMS_PER_PAGE).max(1);
    if asked.page > pages {
        // the list became shorter: show its end, not an empty page
        asked.page = pages;
        found = state.store.worklist(&asked).await?;
    }
    let counts = state.store.open_studies_by_band().await?;
    let band = asked.band.map_or("", Band::as_str);
    let q = asked.q.clone().unwrap_or_default();
    let count_of = |b: &str| {
        let counted = counts.iter().filter(|(name, _)| b.is_empty() || name == b);
        u64::try_from(counted.map(|(_, n)| n).sum::<i64>()).unwrap_or(0)
    };
    let filter = |value: &'static str, text: &'static str| Filter {
        value,
        text,
        href: address(value, &q),
        here: value == band,
        count: count_of(value),
    };
    let filters = std::iter::once(filter("", "All"))
        .chain(BANDS.iter().map(|b| filter(b.as_str(), words::band(*b))))
        .collect();
    let now_ms = state.clock.now_ms();
    Ok(List {
        rows: found
            .items
            .iter()
            .map(|item| Row::new(item, state))
            .collect(),
        total_text: if found.total == 1 {
            "1 open study".to_owned()
        } else {
            format!("{} open studies", found.total)
        },
        page: asked.page,
        pages,
        base: address(band, &q),
        q,
        band,
        filters,
        now_ms,
        now: words::clock_time(now_ms, now_ms, state.settings.time_zone),
        bound_minutes: state.ranker.settings.overtaking_bound_minutes(),
    })
}

/// The address of the first page of a filtered list.
fn address(band: &str, q: &str) -> String {
    let encoded: String = q.bytes().fold(String::new(), |mut out, byte| {
        use std::fmt::Write as _;
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    });
    format!("/worklist?band={band}&q={encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<WorklistQuery, &'static str> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        query(&pairs).map_err(|p| p.code)
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        assert_eq!(read(&[("band", "high")]), Err("unknown_band"));
        assert_eq!(read(&[("page", "0")]), Err("bad_page"));
        assert_eq!(read(&[("page", "x")]), Err("bad_page"));
        assert_eq!(read(&[("q", &"x".repeat(201))]), Err("bad_search"));
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
