//! `/second-opinion`: studies that were read as something else than screening said; and what readers say
//! that they read a study as.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::{parameters, value};
use super::gate::Visitor;
use super::view::Frame;
use super::{shown, words};
use crate::store::opinions::ROWS_PER_PAGE;
use crate::triage::Band;
use crate::worklist::display_name;
use crate::worklist::opinion::{Asked, Disagreement, Kind, ReadAs, ReadOutcome, Source};

/// Months that may be looked at, and what is looked at unless said otherwise.
const MONTHS: [u32; 4] = [1, 3, 12, 36];
const MONTHS_DEFAULT: u32 = 3;
const MONTH_MS: i64 = 2_629_746_000;
/// Last page that may be asked for.
const PAGES_MAX: u64 = 10_000;

#[derive(Template)]
#[template(path = "second_opinion.html")]
struct OpinionPage {
    frame: Frame,
    rows: Vec<Row>,
    total: u64,
    page: u64,
    pages: u64,
    /// Link, name, whether it is chosen.
    months: Vec<(String, String, bool)>,
    kinds: Vec<(String, String, bool)>,
    sources: Vec<(String, String, bool)>,
    flagged: String,
    unflagged: String,
    newer: Option<String>,
    older: Option<String>,
}

struct Row {
    study_uid: String,
    name: String,
    accession: String,
    description: String,
    band: &'static str,
    read_as: &'static str,
    said: String,
    read_at: String,
}

/// What stands in the address.
#[derive(Clone, Copy)]
struct Address {
    months: u32,
    kind: Option<Kind>,
    source: Option<Source>,
    page: u64,
}

impl Address {
    fn read(given: &[(String, String)]) -> Result<Self, Problem> {
        let odd = |name: &'static str, all: String| {
            Problem::bad_request("bad_filter", format!("{name} must be one of {all}."))
        };
        let months = match value(given, "months") {
            None => MONTHS_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|m| MONTHS.contains(m))
                .ok_or_else(|| odd("months", MONTHS.map(|m| m.to_string()).join(", ")))?,
        };
        let kind = match value(given, "kind").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => Some(
                Kind::parse(text)
                    .ok_or_else(|| odd("kind", Kind::ALL.map(Kind::as_str).join(", ")))?,
            ),
        };
        let source = match value(given, "source").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => Some(
                Source::parse(text)
                    .ok_or_else(|| odd("source", Source::ALL.map(Source::as_str).join(", ")))?,
            ),
        };
        let page = match value(given, "page") {
            None => 1,
            Some(text) => text
                .parse()
                .ok()
                .filter(|p| (1..=PAGES_MAX).contains(p))
                .ok_or_else(|| odd("page", format!("1 to {PAGES_MAX}")))?,
        };
        Ok(Self {
            months,
            kind,
            source,
            page,
        })
    }

    fn url(self) -> String {
        let kind = self.kind.map(|k| format!("&kind={}", k.as_str()));
        let source = self.source.map(|s| format!("&source={}", s.as_str()));
        let page = (self.page > 1).then(|| format!("&page={}", self.page));
        let months = format!("/second-opinion?months={}", self.months);
        let rest = [kind, source, page].into_iter().flatten();
        std::iter::once(months).chain(rest).collect()
    }
}

/// `GET /second-opinion?months=&kind=&source=&page=`
pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let at = Address::read(&parameters(&req))?;
    let now_ms = state.clock.now_ms();
    // Drawn first: a study of the sample is not shown before it was answered.
    let share = state.settings.worklist.audit_share;
    state.store.draw_audit(share, now_ms).await?;
    let found = state
        .store
        .disagreements(&Asked {
            since_ms: now_ms - i64::from(at.months) * MONTH_MS,
            kind: at.kind,
            source: at.source,
            page: at.page,
        })
        .await?;
    let numbers: Vec<i64> = found.rows.iter().map(|r| r.number).collect();
    shown::opinions(&state, &visitor, &at.url(), &numbers);
    let pages = found.total.div_ceil(ROWS_PER_PAGE).max(1);
    let first = Address { page: 1, ..at };
    let to = |page: u64| Address { page, ..at }.url();
    html(&OpinionPage {
        frame: Frame::new("Second opinion", "agreement", &visitor, &state),
        months: MONTHS
            .map(|m| {
                let name = words::counted(u64::from(m), "month");
                (Address { months: m, ..first }.url(), name, m == at.months)
            })
            .to_vec(),
        kinds: choices(
            &Kind::ALL,
            at.kind,
            |kind| Address { kind, ..first }.url(),
            kind_name,
        ),
        sources: choices(
            &Source::ALL,
            at.source,
            |source| Address { source, ..first }.url(),
            source_name,
        ),
        flagged: share_of(found.flagged),
        unflagged: share_of(found.unflagged),
        total: found.total,
        page: at.page,
        pages,
        newer: (at.page > 1).then(|| to((at.page - 1).min(pages))),
        older: (at.page < pages).then(|| to(at.page + 1)),
        rows: found.rows.into_iter().map(|r| row(r, &state)).collect(),
    })
}

fn choices<T: Copy + PartialEq>(
    all: &[T],
    chosen: Option<T>,
    url: impl Fn(Option<T>) -> String,
    name: fn(Option<T>) -> &'static str,
) -> Vec<(String, String, bool)> {
    let each = all.iter().map(|one| Some(*one));
    std::iter::once(None)
        .chain(each)
        .map(|one| (url(one), name(one).to_owned(), one == chosen))
        .collect()
}

fn kind_name(kind: Option<Kind>) -> &'static str {
    match kind {
        None => "Both",
        Some(Kind::UnflaggedAbnormal) => "Not flagged, read abnormal",
        Some(Kind::FlaggedUnremarkable) => "Flagged, read unremarkable",
    }
}

fn source_name(source: Option<Source>) -> &'static str {
    match source {
        None => "Anyone",
        Some(Source::Reader) => "Reader",
        Some(Source::Report) => "Report",
        Some(Source::Audit) => "Audit sample",
        Some(Source::Findings) => "Views of findings",
    }
}

/// "12 of 140".
fn share_of([all, of_them]: [u64; 2]) -> String {
    format!("{of_them} of {all}")
}

fn row(d: Disagreement, state: &WebState) -> Row {
    let by = d.said_by.as_deref();
    Row {
        name: d
            .patient_name
            .as_deref()
            .map(display_name)
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "No name".to_owned()),
        accession: d.accession.unwrap_or_default(),
        description: d.description.unwrap_or_default(),
        band: Band::parse(&d.band).map_or("Not flagged", words::band),
        read_as: match d.kind {
            Kind::FlaggedUnremarkable => "Unremarkable",
            Kind::UnflaggedAbnormal => "Abnormal",
        },
        said: match (d.source, by) {
            (Source::Reader, Some(who)) => who.to_owned(),
            (Source::Report, Some(sender)) => format!("Report from {sender}"),
            (source, _) => source_name(Some(source)).to_owned(),
        },
        read_at: words::exact_time(d.read_at, state.settings.time_zone),
        study_uid: d.study_uid,
    }
}

/// "Read as abnormal, says anna".
pub(super) fn read_as(outcome: &ReadOutcome) -> String {
    let by = match (&outcome.who, &outcome.sender) {
        (Some(who), _) => who.clone(),
        (None, Some(sender)) => format!("the report from {sender}"),
        (None, None) => "someone".to_owned(),
    };
    format!("Read as {}, says {by}", outcome.outcome.as_str())
}

/// Keeps what a reader says that they read a study as.
pub(super) async fn say(
    state: &WebState,
    reader: &str,
    study_uid: &str,
    outcome: &str,
) -> Result<(), Problem> {
    let Some(outcome) = ReadAs::parse(outcome) else {
        let detail = "outcome must be unremarkable or abnormal.";
        return Err(Problem::unprocessable("unknown_outcome", detail));
    };
    let acting = state.acting(reader);
    let kept = state.store.say_outcome(study_uid, outcome, acting).await;
    if !kept.map_err(|e| Problem::internal(&e))? {
        return Err(Problem::not_found("No study with this UID was received."));
    }
    state.news.tell(study_uid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Option<String> {
        let given: Vec<(String, String)> = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Address::read(&given).ok().map(Address::url)
    }

    #[test]
    fn the_address_is_read_back_and_nothing_else_is_taken() {
        let whole = [
            ("months", "12"),
            ("kind", "flagged"),
            ("source", "audit"),
            ("page", "3"),
        ];
        assert_eq!(
            read(&whole).as_deref(),
            Some("/second-opinion?months=12&kind=flagged&source=audit&page=3")
        );
        assert_eq!(read(&[]).as_deref(), Some("/second-opinion?months=3"));
        for odd in [
            ("months", "2"),
            ("kind", "x"),
            ("source", "' OR 1=1"),
            ("page", "0"),
        ] {
            assert_eq!(read(&[odd]), None, "{odd:?}");
        }
    }
}
