//! Numbers and log lines about the work, for machines that watch: what is counted here is this process'.
//!
//! Whoever does something counts it with the macros of `metrics`; `/metrics` gives it to Prometheus.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; 14] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
];

static COUNTED: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `log.json`: one JSON object a line instead of text.
    pub json: bool,
    /// `log.filter`: what is logged, as `info` or `warn,firstread::dicom=debug`; `FIRSTREAD_LOG` overrides.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            json: false,
            filter: format!("info,ort=warn,actix_server=warn,{}", crate::store::QUIET),
        }
    }
}

impl LogSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn check(&self) -> Result<(), String> {
        tracing_subscriber::EnvFilter::try_new(&self.filter)
            .map(drop)
            .map_err(|e| format!("log.filter is {:?}: {e}", self.filter))
    }
}

/// Writes the log to standard error from now on.
pub fn log_to_stderr(settings: &LogSettings) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("FIRSTREAD_LOG")
        .or_else(|_| EnvFilter::try_new(&settings.filter))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // colours are for people; the journal and files keep them as rubbish
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber in one process (tests) is no reason to fail.
    if settings.json {
        let _ = log.json().flatten_event(true).try_init();
    } else {
        let _ = log.try_init();
    }
}

/// Counts from now on.
pub fn start_counting() {
    COUNTED.get_or_init(|| {
        let made = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .and_then(PrometheusBuilder::install_recorder);
        match made {
            Ok(handle) => {
                describe();
                Some(handle)
            }
            Err(e) => {
                warn!(error = %e, "nothing is counted");
                None
            }
        }
    });
}

fn describe() {
    describe_counter!(
        "firstread_objects_total",
        "Objects received, by what became of them."
    );
    describe_counter!(
        "firstread_received_bytes_total",
        "Bytes of objects that were kept."
    );
    describe_counter!(
        "firstread_jobs_total",
        "Jobs done here, by kind and outcome."
    );
    describe_histogram!("firstread_job_seconds", "Time of a job, by kind.");
    describe_histogram!("firstread_stage_seconds", "Time of a stage of screening.");
    describe_counter!(
        "firstread_analyses_total",
        "Series screened, by model and provider."
    );
    describe_counter!(
        "firstread_delivery_attempts_total",
        "Attempts to deliver, by destination and outcome."
    );
}

/// Prometheus text of what was counted.
#[must_use]
pub fn counted() -> String {
    let handle = COUNTED.get().and_then(Option::as_ref);
    handle.map_or_else(String::new, PrometheusHandle::render)
}

/// Keeps what was counted small; call it now and then.
pub fn upkeep() {
    if let Some(handle) = COUNTED.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// Objects came: `outcome` is new, again or quarantined.
pub(crate) fn objects(outcome: &'static str, objects: u64, bytes: u64) {
    counter!("firstread_objects_total", "outcome" => outcome).increment(objects);
    counter!("firstread_received_bytes_total").increment(bytes);
}

/// A job ended: `outcome` is done or failed.
pub(crate) fn job(kind: &'static str, outcome: &'static str, took: Duration) {
    counter!("firstread_jobs_total", "kind" => kind, "outcome" => outcome).increment(1);
    histogram!("firstread_job_seconds", "kind" => kind).record(took.as_secs_f64());
}

/// A series was screened; stages in milliseconds.
pub(crate) fn screened<'a>(
    model: String,
    provider: &'static str,
    stages_ms: impl IntoIterator<Item = (&'a String, &'a u64)>,
) {
    counter!("firstread_analyses_total", "model" => model, "provider" => provider).increment(1);
    for (stage, ms) in stages_ms {
        let seconds = Duration::from_millis(*ms).as_secs_f64();
        histogram!("firstread_stage_seconds", "stage" => stage.clone()).record(seconds);
    }
}

/// An attempt to deliver ended: `outcome` is delivered, later or never.
pub(crate) fn attempt(destination: &str, outcome: &'static str) {
    counter!(
        "firstread_delivery_attempts_total",
        "destination" => destination.to_owned(),
        "outcome" => outcome
    )
    .increment(1);
}
