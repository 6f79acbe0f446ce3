//! The ordered list: what a reader sees of each study, and news of what changed.

pub mod agreement;
pub mod opinion;
mod query;
mod reading;
pub mod ris;
pub mod what_if;

pub use query::{READ_MAX, Reading, Sort, WorklistQuery};
pub use reading::{
    Acting, Assignment, Claim, FeedbackEntry, ReadingEvent, Verdict, WorklistSettings,
};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::analysis::Measurement;
use crate::followup::{FollowUp, NotCompared};
use crate::store::priors::PriorSearch;
use crate::triage::{Band, Reason};

/// Rows on one page of the list.
pub const ITEMS_PER_PAGE: u64 = 50;
/// Changes a slow browser may fall behind before it is told to reload.
const NEWS_CAPACITY: usize = 256;

/// One row of the list. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorklistItem {
    /// The number under which the log keeps it.
    #[serde(skip)]
    pub number: i64,
    /// (0020,000D)
    pub study_uid: String,
    /// Place among all open studies, from 1.
    pub rank: u64,
    /// pending, routine, elevated, urgent or critical.
    pub band: Band,
    /// "Ranked as if it had arrived this many minutes earlier."
    pub head_start_minutes: f64,
    /// The terms of the head start, largest first.
    pub reasons: Vec<Reason>,
    /// Calibrated probability at the site's prevalence.
    pub p_abnormal: Option<f64>,
    /// stat, asap or routine.
    pub order_priority: String,
    /// received, screened, `not_analysed` or failed.
    pub state: String,
    /// Why it was not analysed.
    pub not_analysed_reason: Option<String>,
    /// pending, done or `not_done`.
    pub volumetry: String,
    /// Why volumetry was not done.
    pub volumetry_reason: Option<String>,
    /// Receipt of the first object.
    pub arrived_at: String,
    /// When screening was done.
    pub screened_at: Option<String>,
    /// When volumetry was done.
    pub analysed_at: Option<String>,
    /// What the list is ordered by.
    pub effective_arrival: String,
    /// "T1, FLAIR; DWI not analysed".
    pub looked_at: Option<String>,
    /// "new images" and the like.
    pub note: Option<String>,
    /// Person name as for display.
    pub patient_name: Option<String>,
    /// (0010,0020)
    pub patient_id: Option<String>,
    /// F, M or O.
    pub sex: Option<String>,
    /// At the time of the study.
    pub age_years: Option<f64>,
    /// (0008,0050)
    pub accession: Option<String>,
    /// (0008,0020) `YYYYMMDD`
    pub study_date: Option<String>,
    /// (0008,1030)
    pub description: Option<String>,
    /// (0008,0090)
    pub referrer: Option<String>,
    /// (0008,0060) of the first series.
    pub modality: Option<String>,
    /// (0018,0015) of the first series.
    pub region: Option<String>,
    /// (0008,0080)
    pub location: Option<String>,
    /// Images received so far.
    pub images: u64,
    /// Name of the reader's account that has it in hand.
    pub assigned_to: Option<String>,
    /// Since when.
    pub claimed_at: Option<String>,
    /// When that reader last did something on it: the claim ends so many minutes after.
    pub claim_active_at: Option<String>,
    /// When it was read, where it was: RFC 3339.
    pub read_at: Option<String>,
    /// A series of which there is a picture (0020,000E).
    #[serde(skip)]
    pub pictured_series: Option<String>,
}

/// A page of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorklistPage {
    /// The rows, in order.
    pub items: Vec<WorklistItem>,
    /// Open studies that match, on all pages.
    pub total: u64,
    /// This page, from 1.
    pub page: u64,
}

/// One study with everything known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyDetail {
    /// The row, rank 0 where the study is not open.
    #[serde(flatten)]
    pub item: WorklistItem,
    /// open, read or prior.
    pub reading: String,
    /// Settings version the ranking was made with.
    pub settings_version: i64,
    /// When anything of it last changed: images, rank, order or reading; RFC 3339.
    pub changed_at: String,
    /// Its series.
    pub series: Vec<SeriesDetail>,
    /// What screening said, one entry a screened series.
    pub screenings: Vec<ScreeningDetail>,
    /// Volumes with z and percentile; empty before analysis, coarse ones before volumetry.
    pub volumes: Vec<VolumeDetail>,
    /// What volumetry measured; null before it and where it was not done.
    pub measurement: Option<Measurement>,
    /// Against the patient's earlier scan; null where there is none to compare with.
    pub follow_up: Option<FollowUp>,
    /// Why not, where there are earlier scans.
    pub not_compared: Option<NotCompared>,
    /// How far asking the PACS for earlier studies is; null where it is not asked.
    pub prior_search: Option<PriorSearch>,
    /// Findings (those reasons that were measured in the images).
    pub findings: Vec<Reason>,
    /// What it was read as, where somebody said so.
    pub read_as: Option<opinion::ReadOutcome>,
    /// Orders it is read under.
    pub orders: Vec<ris::KnownOrder>,
    /// Orders of its patient that may be meant for it where it has none; they change nothing.
    pub possible_orders: Vec<ris::KnownOrder>,
    /// What readers did with it, newest first.
    pub history: Vec<ReadingEvent>,
    /// What readers think of its findings, newest first.
    pub feedback: Vec<FeedbackEntry>,
    /// What was told of it, to whom, and how far that went; oldest first.
    pub deliveries: Vec<DeliveryDetail>,
}

/// Something that is told of a study to one destination.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeliveryDetail {
    /// Key.
    pub id: i64,
    /// alert or object.
    pub kind: String,
    /// seg, sr, pdf or sc, where it carries one of our objects.
    pub object: Option<String>,
    /// To whom, by its name in the settings.
    pub destination: String,
    /// The band that the study rose to.
    pub band: Option<Band>,
    /// waiting, sending, delivered, dead or skipped.
    pub state: String,
    /// Attempts begun.
    pub attempts: i64,
    /// What came of the last attempt, or why it was skipped.
    pub said: Option<String>,
    /// When it was written, RFC 3339.
    pub created_at: String,
    /// When it was delivered, given up or skipped.
    pub settled_at: Option<String>,
    /// When someone acknowledged the alert.
    pub acknowledged_at: Option<String>,
    /// Who did.
    pub acknowledged_by: Option<String>,
    /// What the destination says of keeping the object (storage commitment): requested, committed, failed or `not_offered`.
    pub commitment: Option<String>,
    /// When it was asked or said so.
    pub commitment_at: Option<String>,
}

/// A series of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesDetail {
    /// (0020,000E)
    pub series_uid: String,
    /// (0020,0011)
    pub number: Option<i64>,
    /// (0008,0060)
    pub modality: Option<String>,
    /// (0008,103E)
    pub description: Option<String>,
    /// Images received.
    pub images: u64,
    /// receiving or complete.
    pub state: String,
    /// What series choice took it for.
    pub kind: Option<String>,
    /// Why it was or was not used.
    pub kind_reason: Option<String>,
}

/// What screening said about one series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScreeningDetail {
    /// (0020,000E)
    pub series_uid: String,
    /// screened, `not_analysed` or failed.
    pub outcome: String,
    /// Why, where it was not screened.
    pub reason: Option<String>,
    /// Name and version of the network.
    pub model: String,
    /// Execution provider that ran: `cpu` or `cuda`.
    pub provider: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Probability before the shift to the site's prevalence.
    pub p_calibrated: Option<f64>,
    /// Stage times in milliseconds.
    pub timings_ms: serde_json::Value,
    /// Planes of which there are pictures: axial, coronal, sagittal.
    pub pictures: Vec<String>,
}

/// A structure's volume, compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeDetail {
    /// Name as in the norm table.
    pub structure: String,
    /// FreeSurfer code, where it is one structure.
    pub label: Option<i64>,
    /// mm3.
    pub volume_mm3: f64,
    /// Percent of intracranial volume.
    #[serde(default)]
    pub percent_icv: Option<f64>,
    /// Standard deviations from healthy people of the same age and sex.
    pub z: Option<f64>,
    /// 0-100.
    pub percentile: Option<f64>,
    /// The 5th and the 95th percentile of healthy people of this age, sex and head size, mm3.
    #[serde(default)]
    pub healthy_mm3: Option<[f64; 2]>,
    /// Why there is no z.
    pub no_norm: Option<String>,
}

/// "4 min", "1 h 05 min", "2 d 3 h". The page's script says it in the same words.
#[must_use]
pub fn waiting(ms: i64) -> String {
    let minutes = (ms / 60_000).max(0);
    match minutes {
        0..60 => format!("{minutes} min"),
        60..1440 => format!("{} h {:02} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1440, minutes % 1440 / 60),
    }
}

/// A DICOM person name (PS3.5 6.2.1.1) as a person would write it: `Family, Given Middle`,
/// further component groups (ideographic, phonetic) in brackets.
#[must_use]
pub fn display_name(raw: &str) -> String {
    let mut groups = raw.split('=').map(|group| {
        let mut parts = group.split('^').map(str::trim);
        let family = parts.next().unwrap_or_default();
        let given: Vec<&str> = parts.take(2).filter(|p| !p.is_empty()).collect();
        match (family.is_empty(), given.is_empty()) {
            (_, true) => family.to_owned(),
            (true, false) => given.join(" "),
            (false, false) => format!("{family}, {}", given.join(" ")),
        }
    });
    let first = groups.next().unwrap_or_default();
    let others: Vec<String> = groups.filter(|g| !g.is_empty()).collect();
    match (first.is_empty(), others.is_empty()) {
        (_, true) => first,
        (true, false) => others.join(" / "),
        (false, false) => format!("{first} ({})", others.join(" / ")),
    }
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum News {
    /// About this study (0020,000D).
    Study(String),
    /// About the whole list.
    Everything,
}

/// Tells every open browser that a row changed.
#[derive(Debug, Clone)]
pub struct NewsDesk {
    all: broadcast::Sender<News>,
    /// What began in this process: the others must be told.
    ours: broadcast::Sender<News>,
}

impl Default for NewsDesk {
    fn default() -> Self {
        Self {
            all: broadcast::channel(NEWS_CAPACITY).0,
            ours: broadcast::channel(NEWS_CAPACITY).0,
        }
    }
}

impl NewsDesk {
    /// Spreads the news; it is fine if nobody listens.
    pub fn tell(&self, study_uid: &str) {
        self.spread(&News::Study(study_uid.to_owned()));
    }

    /// Says that any row may have changed.
    pub fn tell_of_everything(&self) {
        self.spread(&News::Everything);
    }

    fn spread(&self, news: &News) {
        let _ = self.all.send(news.clone());
        let _ = self.ours.send(news.clone());
    }

    /// Passes on what another process said.
    pub fn pass_on(&self, news: News) {
        let _ = self.all.send(news);
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.all.subscribe()
    }

    /// Listens to what began in this process.
    #[must_use]
    pub fn listen_to_ours(&self) -> broadcast::Receiver<News> {
        self.ours.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::display_name;

    #[track_caller]
    fn check(raw: &str, shown: &str) {
        assert_eq!(display_name(raw), shown);
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        check("Doe^Jane^Q", "Doe, Jane Q");
        check("Doe", "Doe");
        check("^Jane", "Jane");
        check(
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "Yamada, Tarou (山田, 太郎 / やまだ, たろう)",
        );
        check("=山田^太郎", "山田, 太郎");
        check("", "");
    }
}
