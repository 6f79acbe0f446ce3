//! `/system`: who runs, what waits, what is stuck, for administrators.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::answer::{PageError, html};
use super::gate::Visitor;
use super::view::Frame;
use super::{WebState, words};
use crate::serve::used_percent;
use crate::store::processes::Process;
use crate::worklist::waiting;

/// A process that has been silent for longer is shown as silent, in milliseconds.
const SILENT_MS: i64 = 10_000;

struct ProcessRow {
    role: String,
    node: String,
    version: String,
    started: String,
    heard: String,
    silent: bool,
    /// What lies in its object log.
    log: String,
}

struct QueueRow {
    kind: &'static str,
    waiting: i64,
    running: i64,
    oldest: String,
}

/// How far the audit trail went to the audit record repository.
struct Records {
    to: String,
    waiting: i64,
    oldest: Option<String>,
    sent: Option<String>,
    problem: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "system.html")]
struct SystemPage {
    frame: Frame,
    processes: Vec<ProcessRow>,
    queues: Vec<QueueRow>,
    stuck: Vec<String>,
    database: &'static str,
    disk: String,
    screened: Vec<(&'static str, u64, String)>,
    deliveries: Vec<(String, i64)>,
    kept_aside: u64,
    records: Option<Records>,
}

pub(super) async fn page(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let now_ms = state.clock.now_ms();
    let watched = state.health.watched();
    let shares = state.store.is_postgres();
    let processes = state.store.processes().await?;
    let queues = state.store.queues(now_ms).await?;
    let percent = |mean: Option<f64>| mean.map_or("-".into(), |p| format!("{:.0} %", p * 100.0));
    let page = SystemPage {
        frame: Frame::new("System", "system", &visitor, &state),
        processes: processes.iter().map(|p| row(p, shares, &state)).collect(),
        queues: queues
            .iter()
            .map(|q| QueueRow {
                kind: work(&q.kind),
                waiting: q.jobs - q.running,
                running: q.running,
                oldest: waiting(now_ms - q.oldest_due),
            })
            .collect(),
        stuck: stuck(&watched.stuck),
        database: if shares { "PostgreSQL" } else { "SQLite" },
        disk: used_percent(&state.data).map_or("unknown".into(), |p| format!("{p} % used")),
        screened: vec![
            (
                "last 24 hours",
                watched.day.studies,
                percent(watched.day.mean),
            ),
            (
                "last 30 days",
                watched.month.studies,
                percent(watched.month.mean),
            ),
        ],
        deliveries: state.store.deliveries_by_state().await?,
        kept_aside: state.store.kept_aside_count().await?,
        records: records(&state).await?,
    };
    html(&page)
}

async fn records(state: &WebState) -> Result<Option<Records>, PageError> {
    let Some(to) = state.records_to.clone() else {
        return Ok(None);
    };
    let now_ms = state.clock.now_ms();
    let at = |ms| words::clock_time(ms, now_ms, state.settings.time_zone);
    let sent = state.store.trail_sent().await?;
    Ok(Some(Records {
        to,
        waiting: sent.waiting,
        oldest: sent.oldest_ms.map(|ms| waiting(now_ms - ms)),
        sent: sent.sent_ms.map(at),
        problem: sent.problem.map(|(why, since)| (why, at(since))),
    }))
}

fn row(process: &Process, shares: bool, state: &WebState) -> ProcessRow {
    let now_ms = state.clock.now_ms();
    let silent_ms = now_ms - process.beat_ms;
    ProcessRow {
        role: process.role.clone(),
        node: process.node.clone(),
        version: process.version.clone(),
        started: words::clock_time(process.started_ms, now_ms, state.settings.time_zone),
        // A process that is alone does not say that it lives: it shows this page.
        heard: if shares {
            format!("{} s ago", (silent_ms / 1000).max(0))
        } else {
            "now".into()
        },
        silent: shares && silent_ms > SILENT_MS,
        log: in_log(process, state),
    }
}

/// What lies in the object log of a process, and for how long.
fn in_log(process: &Process, state: &WebState) -> String {
    let here = state.health.backlog.unrecorded();
    let (bytes, oldest_ms) = if state.store.run() == Some(process.run.as_str()) {
        (here.bytes, here.oldest_ms)
    } else {
        let bytes = u64::try_from(process.log_bytes).unwrap_or(0);
        (bytes, process.log_oldest_ms)
    };
    oldest_ms.map_or("nothing".into(), |at| {
        let age = waiting(state.clock.now_ms() - at);
        format!("{} MB, the oldest for {age}", bytes.div_ceil(1_000_000))
    })
}

fn work(kind: &str) -> &'static str {
    match kind {
        "screen" => "Screening",
        "volumetry" => "Volumetry",
        "follow_up" => "Comparing with earlier scans",
        "results" => "Making results",
        _ => "Other",
    }
}

/// What is stuck, in words.
pub(super) fn stuck(stuck: &crate::store::watch::Stuck) -> Vec<String> {
    let all = [
        (stuck.jobs, "job", "due for long and not done"),
        (
            stuck.series,
            "series",
            "not complete, though nothing comes any more",
        ),
        (
            stuck.deliveries,
            "delivery",
            "waiting for more than an hour",
        ),
        (
            stuck.logs,
            "object log",
            "images that were received more than 5 minutes ago are not recorded",
        ),
        (
            stuck.damaged_logs,
            "object log",
            "put aside, as records in it are damaged: objects that were acknowledged may be missing",
        ),
    ];
    all.into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, what, how)| match (n, what) {
            (n, "series") => format!("{n} series: {how}"),
            (1, what) => format!("1 {what}: {how}"),
            (n, "delivery") => format!("{n} deliveries: {how}"),
            (n, what) => format!("{n} {what}s: {how}"),
        })
        .collect()
}
