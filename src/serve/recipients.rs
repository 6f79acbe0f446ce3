//! Who gets what, as the settings say and the page of destinations adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guests::gets_results;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::made::MadeResults;
use crate::report::Reporter;
use crate::results::Results;
use crate::store::ris::ResultDestination;
use crate::store::{Files, Store};
use crate::web::Desk;

/// What the page of destinations knows of the settings file.
pub(super) fn desk(config: &Config, made: &MadeResults) -> Desk {
    Desk {
        hl7: config.hl7.clone(),
        made: made.clone(),
        needed: config.alerts.counts_on(),
        mails: !config.smtp.host.is_empty(),
    }
}

/// Tells the database who gets results.
pub(super) async fn know_ris(store: &Store, config: &Config) -> Result<(), String> {
    store
        .know_result_destinations(&results_to(config))
        .await
        .map_err(super::database)
}

/// Who gets results, as the settings file says.
pub(super) fn results_to(config: &Config) -> Vec<ResultDestination> {
    let all = config.hl7.destinations.iter();
    all.map(gets_results).collect()
}

/// Where each destination of DICOM objects is, for people.
pub(super) fn objects_to(config: &Config) -> BTreeMap<String, String> {
    let all = config.dicom.destinations.iter();
    all.map(|d| (d.name.clone(), d.reached())).collect()
}

pub(super) fn results(
    config: &Config,
    store: &Store,
    files: &Files,
    clock: &SharedClock,
    reporter: &Arc<Reporter>,
    made: &MadeResults,
) -> Results {
    Results {
        store: store.clone(),
        files: files.clone(),
        clock: clock.clone(),
        reporter: reporter.clone(),
        destinations: config.dicom.destinations.clone(),
        made: made.objects.clone(),
        ae_title: config.dicom.ae_title.clone(),
    }
}
