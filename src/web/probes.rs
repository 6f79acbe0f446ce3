//! `/healthz`, `/readyz`, `/metrics`: for machines, without login, without anything about patients.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::WebState;
use super::answer::{ApiError, Problem};

/// The process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// Everything that this process serves is up.
pub(super) async fn readyz(state: web::Data<WebState>) -> Result<HttpResponse, ApiError> {
    let not_ready = match state.health.not_ready() {
        Some(why) => Some(why),
        None => state
            .store
            .ping()
            .await
            .err()
            .map(|_| "the database does not answer".to_owned()),
    };
    match not_ready {
        None => Ok(HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .body("ready\n")),
        Some(why) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            format!("not ready: {why}"),
        )
        .retry_after(1)
        .into()),
    }
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
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}
