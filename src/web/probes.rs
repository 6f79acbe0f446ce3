//! `/healthz`, `/readyz`, `/metrics`: for machines, without login, without anything about patients.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::WebState;
use super::answer::{ApiError, Problem};
use crate::serve::used_percent;
use crate::telemetry;

/// How long `/metrics` waits for the database: whoever asks waits 10 s by default.
const DATABASE_WAIT: Duration = Duration::from_secs(5);

/// The process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// Everything that this process serves is up; else whether it is still starting, or broken and how.
pub(super) async fn readyz(state: web::Data<WebState>) -> Result<HttpResponse, ApiError> {
    let not_ready = match state.health.not_ready() {
        Some(why) => Some(("starting", why)),
        None => broken(&state).await.map(|why| ("broken", why)),
    };
    match not_ready {
        None => Ok(HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .body("ready\n")),
        Some((code, why)) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            format!("not ready: {why}"),
        )
        .retry_after(1)
        .into()),
    }
}

async fn broken(state: &WebState) -> Option<String> {
    if state.store.ping().await.is_err() {
        return Some("the database does not answer".to_owned());
    }
    // Of this process' own workers; those of others are told by the metrics.
    let limit_ms = i64::from(state.settings.worker_silence_seconds) * 1000;
    let silent = state.health.silent_since(state.clock.now_ms(), limit_ms);
    let since = silent.filter(|since| *since > 0 && state.health.works_here())?;
    let seconds = (state.clock.now_ms() - since) / 1000;
    Some(format!("the workers have been silent for {seconds} s"))
}

/// Prometheus text format 0.0.4. What this process knows by itself is told also while the database is away.
pub(super) async fn metrics(state: web::Data<WebState>) -> HttpResponse {
    let mut text = String::new();
    gauge(&mut text, "firstread_build_info", "The running program.");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "firstread_build_info{{version=\"{version}\"}} 1");
    let asked = tokio::time::timeout(DATABASE_WAIT, from_database(&state)).await;
    let found = match asked {
        Ok(Ok(found)) => Some(found),
        Ok(Err(_)) | Err(_) => None,
    };
    one(
        &mut text,
        "firstread_database_up",
        "Whether the database answers.",
        u8::from(found.is_some()),
    );
    text.push_str(&found.unwrap_or_default());
    of_this_process(&state, &mut text);
    how_work_goes(&state, &mut text);
    in_object_log(&state, &mut text);
    text.push_str(&telemetry::counted());
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text)
}

/// The same from every process: it is read from what they share.
async fn from_database(state: &WebState) -> Result<String, ApiError> {
    let (store, now_ms) = (&state.store, state.clock.now_ms());
    let mut all = String::new();
    let text = &mut all;
    let by_state = store.open_studies_by_state().await?;
    let help = "Open studies by state of screening.";
    each(text, "firstread_open_studies", help, "state", by_state);
    let by_band = store.open_studies_by_band().await?;
    let help = "Open studies by band.";
    each(
        text,
        "firstread_open_studies_by_band",
        help,
        "band",
        by_band,
    );
    let jobs = store.queued_jobs().await?;
    one(
        text,
        "firstread_jobs_waiting",
        "Jobs that wait or run.",
        jobs,
    );
    let deliveries = store.deliveries_by_state().await?;
    let help = "Deliveries by state.";
    each(text, "firstread_deliveries", help, "state", deliveries);
    let kept_aside = store.kept_aside_count().await?;
    let help = "Objects kept aside.";
    one(text, "firstread_quarantined_objects", help, kept_aside);
    let queues = store.queues(now_ms).await?;
    let help = "Jobs that are due, by kind.";
    let jobs = queues.iter().map(|q| (&q.kind, q.jobs));
    each(text, "firstread_jobs_queued", help, "kind", jobs);
    let help = "Since when the oldest job is due, by kind.";
    let ages = queues
        .iter()
        .map(|q| (&q.kind, (now_ms - q.oldest_due) / 1000));
    each(text, "firstread_oldest_job_seconds", help, "kind", ages);
    let processes = store.processes().await?;
    let of_role = |role| processes.iter().filter(|p| p.role == role).count();
    let roles = ["all", "receiver", "worker", "web"].map(|role| (role, of_role(role)));
    let help = "Processes that are known, by role.";
    each(text, "firstread_processes", help, "role", roles);
    records(state, text).await?;
    Ok(all)
}

/// What this process knows of itself and its machine.
fn of_this_process(state: &WebState, text: &mut String) {
    let listeners = state.settings.live_listeners_max - state.listeners.available_permits();
    let help = "Browsers that get live updates.";
    one(text, "firstread_live_listeners", help, listeners);
    let help = "Entries of the log of what was shown that could not be kept.";
    one(text, "firstread_shown_log_lost", help, state.shown.lost());
    if let Some(percent) = used_percent(&state.data) {
        let help = "Of the disk that the data folder lies on.";
        one(text, "firstread_disk_used_percent", help, percent);
    }
}

/// How the work goes, as this process last looked.
fn how_work_goes(state: &WebState, text: &mut String) {
    let (health, now_ms) = (&state.health, state.clock.now_ms());
    let unreached = health.unreached_alerts.load(Ordering::Relaxed);
    let help = "Alerts that reached nobody, and that no step is left for.";
    one(text, "firstread_unreached_alerts", help, unreached);
    let failing = health.failing_destinations.get().len();
    let help = "Destinations that messages do not reach.";
    one(text, "firstread_failing_destinations", help, failing);
    let beat = health.silent_since(now_ms, -1).filter(|beat| *beat > 0);
    let silent = beat.map(|beat| (now_ms - beat) / 1000);
    let help = "Since a worker last said it is alive.";
    gauge(text, "firstread_worker_silence_seconds", help);
    if let Some(silent) = silent {
        let _ = writeln!(text, "firstread_worker_silence_seconds {silent}");
    }
    let watched = health.watched();
    let stuck = watched.stuck;
    let all = [
        ("jobs", stuck.jobs),
        ("series", stuck.series),
        ("deliveries", stuck.deliveries),
        ("logs", stuck.logs),
        ("damaged_logs", stuck.damaged_logs),
    ];
    let help = "Work that should be done by now.";
    each(text, "firstread_stuck", help, "what", all);
    let said = [("1d", watched.day), ("30d", watched.month)];
    let means = said.iter().filter_map(|(w, said)| Some((*w, said.mean?)));
    let help = "Mean probability of screened studies.";
    each(text, "firstread_probability_mean", help, "window", means);
    let studies = said.iter().map(|(w, said)| (*w, said.studies));
    let help = "Screened studies that the mean is of.";
    each(
        text,
        "firstread_probability_studies",
        help,
        "window",
        studies,
    );
}

/// What was received and has no file and row yet: in this process' log, and in those of receivers that are dead where
/// this process is none.
fn in_object_log(state: &WebState, text: &mut String) {
    let here = state.health.backlog.unrecorded();
    let lies = here.and(state.health.watched().left);
    let help = "Bytes of acknowledged objects that are not recorded yet.";
    one(text, "firstread_object_log_bytes", help, lies.bytes);
    let help = "Acknowledged objects that are not recorded yet.";
    one(text, "firstread_object_log_objects", help, lies.objects);
    let now_ms = state.clock.now_ms();
    let age_ms = lies.oldest_ms.map_or(0, |at| (now_ms - at).max(0));
    let help = "Since when the oldest of them lies there.";
    let seconds = age_ms / 1000;
    one(text, "firstread_object_log_oldest_seconds", help, seconds);
}

/// How far the audit trail went to the audit record repository, where there is one.
async fn records(state: &WebState, text: &mut String) -> Result<(), ApiError> {
    if state.records_to.is_none() {
        return Ok(());
    }
    let sent = state.store.trail_sent().await?;
    let help = "Entries of the audit trail that the audit record repository has not.";
    one(text, "firstread_audit_unsent", help, sent.waiting);
    let age_ms = sent.oldest_ms.map_or(0, |ms| state.clock.now_ms() - ms);
    let help = "Age of the oldest of them.";
    one(text, "firstread_audit_unsent_seconds", help, age_ms / 1000);
    Ok(())
}

/// A gauge with one value.
fn one(text: &mut String, name: &str, help: &str, value: impl Display) {
    gauge(text, name, help);
    let _ = writeln!(text, "{name} {value}");
}

/// A gauge with a value for each of a label's.
fn each<L: Display, V: Display>(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (L, V)>,
) {
    gauge(text, name, help);
    for (of, value) in values {
        let _ = writeln!(text, "{name}{{{label}=\"{of}\"}} {value}");
    }
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}
