//! `/agreement`: how far readers agree with screening; `/audit`: the sample that is read once more.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::{parameters, value};
use super::gate::{self, Visitor};
use super::reading::COMMENT_CHARS_MAX;
use super::trail::note;
use super::view::{Frame, Row};
use super::{shown, words};
use crate::store::audit::AuditOutcome;
use crate::worklist::agreement::{Answer, AuditLine, Line, agreement, audit_lines};

/// Months that may be looked at, and what is looked at unless said otherwise.
const MONTHS: [u32; 4] = [1, 3, 12, 36];
const MONTHS_DEFAULT: u32 = 12;
const MONTH_MS: i64 = 2_629_746_000;
/// Months of one row of bars.
const BARS_MAX: usize = 36;
/// Most studies that may be skipped.
const SKIP_MAX: u64 = 1_000_000;

#[derive(Template)]
#[template(path = "agreement.html")]
struct AgreementPage {
    frame: Frame,
    months: u32,
    choices: [u32; 4],
    lines: Vec<LineRow>,
    audit: Vec<AuditRow>,
    share: String,
    read_unflagged: u64,
    estimate: Option<String>,
}

struct LineRow {
    finding: String,
    model: String,
    agree: usize,
    disagree: usize,
    share: String,
    bars: Vec<Bar>,
    width: usize,
}

/// A month: share that agrees, and how many words that rests on.
struct Bar {
    x: usize,
    y: String,
    height: String,
    title: String,
}

struct AuditRow {
    model: String,
    unflagged: [usize; 3],
    missed: String,
    flagged: [usize; 3],
    right: String,
}

/// "12 % (4 to 29)".
fn percent(share: Option<[f64; 3]>) -> String {
    share.map_or_else(
        || "not known yet".to_owned(),
        |[share, low, high]| {
            let digits = usize::from(high < 0.1);
            let p = |x: f64| format!("{:.digits$}", 100.0 * x);
            format!("{} % ({} to {})", p(share), p(low), p(high))
        },
    )
}

/// `GET /agreement?months=`
pub(super) async fn agreement_page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let months = match value(&given, "months") {
        None => MONTHS_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|m| MONTHS.contains(m))
            .ok_or_else(|| {
                let all = MONTHS.map(|m| m.to_string()).join(", ");
                Problem::bad_request("bad_months", format!("months must be one of {all}."))
            })?,
    };
    let now_ms = state.clock.now_ms();
    let since_ms = now_ms - i64::from(months) * MONTH_MS;
    let share = state.settings.worklist.audit_share;
    state.store.draw_audit(share, now_ms).await?;
    let zone = state.settings.time_zone;
    let words = state
        .store
        .words_since(since_ms, |at_ms| words::month(at_ms, zone))
        .await?;
    let lines = agreement(&words);
    let sample = audit_lines(&state.store.audited(since_ms).await?);
    let (read_unflagged, _) = state.store.read_since(since_ms).await?;
    html(&AgreementPage {
        frame: Frame::new("Agreement", "agreement", &visitor, &state),
        months,
        choices: MONTHS,
        lines: lines.iter().map(line_row).collect(),
        estimate: sample.first().and_then(|all| estimate(all, read_unflagged)),
        audit: sample.into_iter().map(audit_row).collect(),
        share: format!("{}", share * 100.0),
        read_unflagged,
    })
}

fn line_row(line: &Line) -> LineRow {
    let shown = line.months.iter().rev().take(BARS_MAX).rev();
    let bars: Vec<Bar> = shown
        .enumerate()
        .map(|(at, month)| {
            let words = month.agree + month.disagree;
            let share = month.agree as f64 / words as f64;
            let height = (share * 22.0).max(1.0);
            Bar {
                x: 9 * at,
                y: format!("{:.1}", 24.0 - height),
                height: format!("{height:.1}"),
                title: format!("{}: {} of {words} agree", month.month, month.agree),
            }
        })
        .collect();
    LineRow {
        finding: words::finding_name(&line.finding),
        model: line.model.clone().unwrap_or_else(|| "unknown".to_owned()),
        agree: line.agree,
        disagree: line.disagree,
        share: percent(Some(line.share)),
        width: 9 * bars.len().max(1),
        bars,
    }
}

fn audit_row(line: AuditLine) -> AuditRow {
    AuditRow {
        model: line.model.unwrap_or_else(|| "All".to_owned()),
        unflagged: line.unflagged,
        missed: percent(line.missed),
        flagged: line.flagged,
        right: percent(line.right),
    }
}

/// What the sample says of all that was read unflagged.
fn estimate(all: &AuditLine, read_unflagged: u64) -> Option<String> {
    let [share, low, high] = all.missed?;
    let of = |x: f64| format!("{:.0}", x * read_unflagged as f64);
    Some(format!("about {} ({} to {})", of(share), of(low), of(high)))
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    case: Option<Case>,
    waiting: u64,
    skip: u64,
    kept: bool,
    share: String,
    comment_chars_max: usize,
}

/// A study as whoever answers sees it: nothing of what was said of it. Our pictures are left out, too:
/// their planes go through what screening saw.
struct Case {
    study_uid: String,
    name: String,
    about: String,
    patient_id: String,
    accession: String,
    description: String,
    study_date: String,
    viewer: Option<String>,
}

/// `GET /audit?skip=`
pub(super) async fn audit_page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let skip = value(&given, "skip").and_then(|s| s.parse().ok());
    let skip = skip.filter(|s| *s <= SKIP_MAX).unwrap_or(0);
    let share = state.settings.worklist.audit_share;
    state.store.draw_audit(share, state.clock.now_ms()).await?;
    let me = &visitor.user.name;
    let (next, waiting) = state.store.next_audit(me, skip).await?;
    let case = match next {
        Some(next) => case(&state, &visitor, &next.study_uid).await?,
        None => None,
    };
    if let Some(case) = &case {
        // the address does not say whose turn it is
        note(&req, |n| n.study_uid = Some(case.study_uid.clone()));
    }
    html(&AuditPage {
        frame: Frame::new("Audit", "audit", &visitor, &state),
        case,
        waiting,
        skip,
        kept: value(&given, "kept").is_some(),
        share: format!("{}", share * 100.0),
        comment_chars_max: COMMENT_CHARS_MAX,
    })
}

async fn case(
    state: &WebState,
    visitor: &Visitor,
    study_uid: &str,
) -> Result<Option<Case>, PageError> {
    let detail = state.store.study_detail(study_uid, state.held_since_ms());
    let Some(detail) = detail.await? else {
        return Ok(None);
    };
    shown::audit(state, visitor, detail.item.number);
    let row = Row::new(&detail.item, &visitor.user.name, state);
    Ok(Some(Case {
        viewer: super::study::viewer(state, &row),
        study_date: detail
            .item
            .study_date
            .as_deref()
            .map(words::dicom_date)
            .unwrap_or_default(),
        study_uid: row.study_uid,
        name: row.name,
        about: row.about,
        patient_id: row.patient_id,
        accession: row.accession,
        description: row.description,
    }))
}

#[derive(Deserialize)]
pub(super) struct Answered {
    csrf: String,
    #[serde(default)]
    answer: String,
    #[serde(default)]
    comment: String,
}

/// `POST /audit/{study_uid}`
pub(super) async fn answer(
    study_uid: web::Path<String>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: web::Form<Answered>,
) -> Result<HttpResponse, PageError> {
    gate::check_csrf(&form.csrf, &visitor)?;
    let Some(answer) = Answer::parse(&form.answer) else {
        let detail = "answer must be nothing or something.";
        return Err(Problem::unprocessable("unknown_answer", detail).into());
    };
    let comment = Some(form.comment.trim()).filter(|c| !c.is_empty());
    if comment.is_some_and(|c| c.chars().count() > COMMENT_CHARS_MAX || c.contains('\0')) {
        let detail = format!("A comment has at most {COMMENT_CHARS_MAX} characters and no NUL.");
        return Err(Problem::unprocessable("bad_comment", detail).into());
    }
    let now_ms = state.clock.now_ms();
    let kept = state
        .store
        .answer_audit(&study_uid, &visitor.user.name, answer, comment, now_ms)
        .await?;
    match kept {
        AuditOutcome::Kept => Ok(HttpResponse::SeeOther()
            .insert_header((header::LOCATION, "/audit?kept=1"))
            .finish()),
        AuditOutcome::NotAsked => {
            let detail = "This study is not asked about: it was answered meanwhile, is not in the \
                          sample, or you read it yourself.";
            Err(Problem::new(actix_web::http::StatusCode::CONFLICT, "not_asked", detail).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn small_shares_keep_a_digit() {
        assert_eq!(percent(None), "not known yet");
        assert_eq!(percent(Some([0.01, 0.0018, 0.0546])), "1.0 % (0.2 to 5.5)");
        assert_eq!(percent(Some([0.5, 0.25, 0.75])), "50 % (25 to 75)");
    }
}
