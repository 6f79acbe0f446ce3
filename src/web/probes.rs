//! `/healthz`, `/readyz`, `/metrics`: for machines, without login, without anything about patients.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::WebState;
use super::answer::{ApiError, Problem};
use crate::serve::used_percent;
use crate::telemetry;

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

/// Prometheus text format 0.0.4.
pub(super) async fn metrics(state: web::Data<WebState>) -> Result<HttpResponse, ApiError> {
    let mut text = String::new();
    gauge(&mut text, "firstread_build_info", "The running program.");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "firstread_build_info{{version=\"{version}\"}} 1");
    gauge(
        &mut text,
        "firstread_open_studies",
        "Open studies by state of screening.",
    );
    for (name, n) in state.store.open_studies_by_state().await? {
        let _ = writeln!(text, "firstread_open_studies{{state=\"{name}\"}} {n}");
    }
    gauge(
        &mut text,
        "firstread_open_studies_by_band",
        "Open studies by band.",
    );
    for (name, n) in state.store.open_studies_by_band().await? {
        let _ = writeln!(
            text,
            "firstread_open_studies_by_band{{band=\"{name}\"}} {n}"
        );
    }
    gauge(
        &mut text,
        "firstread_jobs_waiting",
        "Jobs that wait or run.",
    );
    let _ = writeln!(
        text,
        "firstread_jobs_waiting {}",
        state.store.queued_jobs().await?
    );
    gauge(&mut text, "firstread_deliveries", "Deliveries by state.");
    for (name, n) in state.store.deliveries_by_state().await? {
        let _ = writeln!(text, "firstread_deliveries{{state=\"{name}\"}} {n}");
    }
    gauge(
        &mut text,
        "firstread_unreached_alerts",
        "Alerts that reached nobody, and that no step is left for.",
    );
    let unreached = state.health.unreached_alerts.load(Ordering::Relaxed);
    let _ = writeln!(text, "firstread_unreached_alerts {unreached}");
    gauge(
        &mut text,
        "firstread_quarantined_objects",
        "Objects kept aside.",
    );
    let kept_aside = state.store.kept_aside_count().await?;
    let _ = writeln!(text, "firstread_quarantined_objects {kept_aside}");
    gauge(
        &mut text,
        "firstread_live_listeners",
        "Browsers that get live updates.",
    );
    let listeners = state.settings.live_listeners_max - state.listeners.available_permits();
    let _ = writeln!(text, "firstread_live_listeners {listeners}");
    gauge(
        &mut text,
        "firstread_shown_log_lost",
        "Entries of the log of what was shown that could not be kept.",
    );
    let _ = writeln!(text, "firstread_shown_log_lost {}", state.shown.lost());
    gauge(
        &mut text,
        "firstread_worker_silence_seconds",
        "Since a worker last said it is alive.",
    );
    let now_ms = state.clock.now_ms();
    if let Some(beat) = state
        .health
        .silent_since(now_ms, -1)
        .filter(|beat| *beat > 0)
    {
        let _ = writeln!(
            text,
            "firstread_worker_silence_seconds {}",
            (now_ms - beat) / 1000
        );
    }
    how_work_goes(&state, &mut text).await?;
    text.push_str(&telemetry::counted());
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}

/// The same from every process: it is read from what they share.
async fn how_work_goes(state: &WebState, text: &mut String) -> Result<(), ApiError> {
    let now_ms = state.clock.now_ms();
    let queues = state.store.queues(now_ms).await?;
    gauge(text, "firstread_jobs_queued", "Jobs that are due, by kind.");
    for q in &queues {
        let _ = writeln!(
            text,
            "firstread_jobs_queued{{kind=\"{}\"}} {}",
            q.kind, q.jobs
        );
    }
    gauge(
        text,
        "firstread_oldest_job_seconds",
        "Since when the oldest job is due, by kind.",
    );
    for q in &queues {
        let seconds = (now_ms - q.oldest_due) / 1000;
        let _ = writeln!(
            text,
            "firstread_oldest_job_seconds{{kind=\"{}\"}} {seconds}",
            q.kind
        );
    }
    let watched = state.health.watched();
    gauge(text, "firstread_stuck", "Work that should be done by now.");
    let stuck = watched.stuck;
    for (what, n) in [
        ("jobs", stuck.jobs),
        ("series", stuck.series),
        ("deliveries", stuck.deliveries),
    ] {
        let _ = writeln!(text, "firstread_stuck{{what=\"{what}\"}} {n}");
    }
    gauge(
        text,
        "firstread_probability_mean",
        "Mean probability of screened studies.",
    );
    for (window, said) in [("1d", watched.day), ("30d", watched.month)] {
        if let Some(mean) = said.mean {
            let _ = writeln!(
                text,
                "firstread_probability_mean{{window=\"{window}\"}} {mean}"
            );
        }
    }
    gauge(
        text,
        "firstread_probability_studies",
        "Screened studies that the mean is of.",
    );
    for (window, said) in [("1d", watched.day), ("30d", watched.month)] {
        let n = said.studies;
        let _ = writeln!(
            text,
            "firstread_probability_studies{{window=\"{window}\"}} {n}"
        );
    }
    gauge(
        text,
        "firstread_processes",
        "Processes that are known, by role.",
    );
    let processes = state.store.processes().await?;
    for role in ["all", "receiver", "worker", "web"] {
        let n = processes.iter().filter(|p| p.role == role).count();
        let _ = writeln!(text, "firstread_processes{{role=\"{role}\"}} {n}");
    }
    gauge(
        text,
        "firstread_failing_destinations",
        "Destinations that messages do not reach.",
    );
    let failing = state.health.failing_destinations.get().len();
    let _ = writeln!(text, "firstread_failing_destinations {failing}");
    records(state, text).await?;
    if let Some(percent) = used_percent(&state.data) {
        gauge(
            text,
            "firstread_disk_used_percent",
            "Of the disk that the data folder lies on.",
        );
        let _ = writeln!(text, "firstread_disk_used_percent {percent}");
    }
    Ok(())
}

/// How far the audit trail went to the audit record repository, where there is one.
async fn records(state: &WebState, text: &mut String) -> Result<(), ApiError> {
    if state.records_to.is_none() {
        return Ok(());
    }
    let now_ms = state.clock.now_ms();
    gauge(
        text,
        "firstread_audit_unsent",
        "Entries of the audit trail that the audit record repository has not.",
    );
    let sent = state.store.trail_sent().await?;
    let _ = writeln!(text, "firstread_audit_unsent {}", sent.waiting);
    gauge(
        text,
        "firstread_audit_unsent_seconds",
        "Age of the oldest of them.",
    );
    let age_ms = sent.oldest_ms.map_or(0, |ms| now_ms - ms);
    let _ = writeln!(text, "firstread_audit_unsent_seconds {}", age_ms / 1000);
    Ok(())
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}
