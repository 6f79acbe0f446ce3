//! Results back to the PACS: once a study is analysed as far as it will be, its report, measurements
//! and segmentation become DICOM objects on disk, and each is handed to the outbox for every
//! destination that wants its kind.

mod assemble;
mod courier;

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::{info, warn};

pub use assemble::{Inputs, Made, assemble};
pub use courier::ObjectCourier;

use crate::analysis::{LESIONS, SEGMENTATION, hex};
use crate::clock::SharedClock;
use crate::dicom::objects::{Kind, Object};
use crate::dicom::send::DestinationSettings;
use crate::outbox::Shared;
use crate::report::facts::Stage;
use crate::report::{Facts, Reporter};
use crate::store::objects::{KeptObject, Wanted};
use crate::store::{Files, Store, StoreError};

/// Makes and hands over results.
pub struct Results {
    /// Database.
    pub store: Store,
    /// Data folder.
    pub files: Files,
    /// Time.
    pub clock: SharedClock,
    /// What makes reports.
    pub reporter: Arc<Reporter>,
    /// Who gets what, by the settings.
    pub destinations: Vec<DestinationSettings>,
    /// Those that were made on the page.
    pub made: Arc<Shared<DestinationSettings>>,
    /// Our AE title.
    pub ae_title: String,
}

impl Results {
    /// Makes the objects of a study whose analysis is settled, once for each result, and asks for
    /// their delivery. A study of which nothing was measured has nothing to send.
    ///
    /// # Errors
    /// In words, when something failed that may work another time.
    pub async fn make(&self, study_id: i64) -> Result<(), String> {
        let text = |e: StoreError| format!("database: {e}");
        let made = self.made.get();
        let destinations: Vec<&DestinationSettings> =
            self.destinations.iter().chain(made.iter()).collect();
        if destinations.is_empty() {
            return Ok(());
        }
        let found = self.store.report_facts_of(study_id).await.map_err(text)?;
        let Some(facts) = found.filter(|facts| facts.settled && facts.measured.is_some()) else {
            return Ok(());
        };
        let result = self.identity(&facts);
        let known = self.store.objects_of_result(study_id, &result).await;
        let mut objects = known.map_err(text)?;
        if objects.is_empty() {
            objects = self.assemble(study_id, &facts, &result).await?;
        }
        let wanted: Vec<Wanted> = destinations.into_iter().map(wanted).collect();
        self.store
            .keep_objects(study_id, &result, &objects, &wanted, self.clock.now_ms())
            .await
            .map_err(text)
    }

    /// What makes this result another than any before it.
    fn identity(&self, facts: &Facts) -> String {
        let measured = facts.measured.as_ref();
        // Report and measurements say what changed: when an earlier study comes later, they are others.
        let compared = measured.map(|_| (&facts.follow_up, facts.not_compared));
        let compared = serde_json::to_string(&compared).unwrap_or_default();
        let parts = [
            env!("CARGO_PKG_VERSION"),
            self.reporter.settings.language.as_str(),
            measured.map_or("", |m| m.series_uid.as_str()),
            measured.map_or("", |m| m.model.as_str()),
            measured.map_or("", |m| m.input.as_str()),
            &compared,
        ];
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part);
            digest.update("\n");
        }
        hex(&digest.finalize())
    }

    async fn assemble(
        &self,
        study_id: i64,
        facts: &Facts,
        result: &str,
    ) -> Result<Vec<KeptObject>, String> {
        let study = self.store.study_for_analysis(study_id).await;
        let study = study.map_err(|e| format!("database: {e}"))?;
        let series = facts.measured.as_ref().map(|m| m.series_uid.clone());
        let of = |uid: Option<&str>| -> Vec<PathBuf> {
            study
                .iter()
                .flat_map(|s| &s.series)
                .filter(|s| Some(s.series_uid.as_str()) == uid)
                .flat_map(|s| &s.files)
                .map(|file| self.files.root().join(file))
                .collect()
        };
        let inputs = Inputs {
            facts: facts.clone(),
            reporter: self.reporter.clone(),
            files: of(series.as_deref()),
            pictures: series
                .as_deref()
                .and_then(|uid| self.files.picture_folder(&facts.study.uid, uid)),
            labels: self.labels(facts, SEGMENTATION),
            // Where there is none, there is nothing to segment.
            lesions: facts
                .lesions
                .as_ref()
                .filter(|found| found.count > 0)
                .and_then(|_| self.labels(facts, LESIONS))
                .map(|map| (of(facts.lesion_series_uid.as_deref()), map)),
            device: self.ae_title.clone(),
            result: result.to_owned(),
            kinds: self.kinds(),
        };
        let made = tokio::task::spawn_blocking(move || assemble(&inputs));
        let made = made
            .await
            .map_err(|e| format!("results broke off: {e}"))??;
        for note in &made.notes {
            warn!(study.id = study_id, note, "an object was not made");
        }
        let mut kept = Vec::new();
        for object in &made.objects {
            kept.push(self.save(facts, object)?);
        }
        info!(
            study.id = study_id,
            objects = kept.len(),
            "results are made"
        );
        Ok(kept)
    }

    /// A label map of a measured study; screening keeps none.
    fn labels(&self, facts: &Facts, name: &str) -> Option<PathBuf> {
        let measured = facts.measured.as_ref()?;
        let folder = self.files.measurement_folder(&facts.study.uid)?;
        (measured.stage == Stage::Volumetry).then(|| folder.join(name))
    }

    /// Kinds that somebody wants; a report of measurements refers to the segmentation, so it is made
    /// with it where both are wanted by anyone.
    fn kinds(&self) -> Vec<Kind> {
        let made = self.made.get();
        let wanted = |kind: &Kind| {
            let mut all = self.destinations.iter().chain(made.iter());
            all.any(|d| d.objects.contains(kind))
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    fn save(&self, facts: &Facts, object: &Object) -> Result<KeptObject, String> {
        let path = self
            .files
            .save_result(&facts.study.uid, &object.sop_instance_uid, &object.file)
            .map_err(|e| format!("could not keep an object: {e}"))?;
        Ok(KeptObject {
            kind: object.kind.as_str().to_owned(),
            sop_instance_uid: object.sop_instance_uid.clone(),
            series_uid: object.series_uid.clone(),
            path,
        })
    }
}

fn wanted(to: &DestinationSettings) -> Wanted {
    Wanted {
        destination: to.name.clone(),
        kinds: to.objects.iter().map(|k| k.as_str().to_owned()).collect(),
    }
}
