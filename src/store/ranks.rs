//! Changing what is known of a study, and its place in the list with it, in one transaction.

use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::alerts::{self, Risen};
use super::entity::study;
use super::subscriptions::{self, News};
use super::{Store, StoreError, jobs, ris, settings};
use crate::alerts::policy::{Facts, Policy};
use crate::triage::{Band, Evidence, OrderPriority, TriageSettings, alert_band, rank};

/// Settings of the ranking together with the version they are kept under.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The settings.
    pub settings: TriageSettings,
    /// Their row in `settings_version`.
    pub version: i64,
}

/// How studies are ranked. The rules may be replaced while the server runs, by another process too:
/// what is kept here is only what was in force when it was last looked at.
#[derive(Debug)]
pub struct Ranker {
    last_seen: RwLock<Arc<Rules>>,
    /// Which ranks alert, and whom: an alert is written with the rank that causes it.
    pub alerts: Policy,
}

impl Ranker {
    /// Ranks by these rules until others are in force.
    #[must_use]
    pub fn new(rules: Rules, alerts: Policy) -> Self {
        Self {
            last_seen: RwLock::new(Arc::new(rules)),
            alerts,
        }
    }

    /// The rules as they were last seen, for what only shows them.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        let seen = self.last_seen.read();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules in force; nobody replaces them until `tx` ends.
    pub(super) async fn rules_in(
        &self,
        tx: &DatabaseTransaction,
    ) -> Result<Arc<Rules>, StoreError> {
        let seen = self.rules();
        match settings::version_in_force(tx).await? {
            Some(version) if version != seen.version => {
                self.put_in_force(settings::load(tx, version).await?);
                Ok(self.rules())
            }
            _ => Ok(seen),
        }
    }

    pub(super) fn put_in_force(&self, rules: Rules) {
        let mut seen = self
            .last_seen
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *seen = Arc::new(rules);
    }
}

/// The part of a study that ranking and analysis change.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// (0020,000D)
    pub study_uid: String,
    /// What the ranking rests on.
    pub evidence: Evidence,
    /// received, screened, `not_analysed` or failed.
    pub state: String,
    /// Why it was not analysed.
    pub not_analysed_reason: Option<String>,
    /// pending, done or `not_done`.
    pub volumetry: String,
    /// Why volumetry was not done.
    pub volumetry_reason: Option<String>,
    /// "T1, FLAIR; DWI not analysed".
    pub looked_at: Option<String>,
    /// When screening was done.
    pub screened_at: Option<i64>,
    /// When volumetry was done.
    pub analysed_at: Option<i64>,
    /// Asks for volumetry in the same transaction; not kept.
    pub wants_volumetry: bool,
}

impl Standing {
    /// Analysis is settled, and came to something else than it had: results are made of it. What
    /// changes with the order alone is no result.
    fn has_news_since(&self, before: &Self) -> bool {
        let measured = |standing: &Self| Evidence {
            order: OrderPriority::default(),
            ..standing.evidence.clone()
        };
        let settled = self.state == "screened" && self.volumetry != "pending";
        settled
            && (self.state != before.state
                || self.volumetry != before.volumetry
                || measured(self) != measured(before))
    }
}

impl Store {
    /// Applies `change` to a study and re-ranks it. Other studies do not move.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn change_standing(
        &self,
        study_id: i64,
        ranker: &Ranker,
        now_ms: i64,
        change: impl FnOnce(&mut Standing),
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        ranker.rules_in(&tx).await?;
        let found = study::Entity::find_by_id(study_id)
            .lock_exclusive()
            .one(&tx)
            .await?;
        if let Some(study) = found {
            change_in(&tx, study, ranker, now_ms, change).await?;
        }
        tx.commit().await
    }

    /// Re-keys every open study that was ranked under other settings, in one transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rekey_open_studies(
        &self,
        ranker: &Ranker,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let rules = ranker.rules_in(&tx).await?;
        let n = rekey(&tx, &rules, ranker, now_ms).await?;
        tx.commit().await?;
        Ok(n)
    }
}

/// Gives every open study that was ranked by other rules its place by these.
pub(super) async fn rekey(
    tx: &DatabaseTransaction,
    rules: &Rules,
    ranker: &Ranker,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let stale = study::Entity::find()
        .filter(study::Column::Reading.eq("open"))
        .filter(study::Column::SettingsVersion.ne(rules.version))
        .order_by_asc(study::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    let n = stale.len() as u64;
    for study in stale {
        let standing = standing(&study);
        update(tx, study, standing, rules, ranker, now_ms).await?;
    }
    Ok(n)
}

/// Gives studies that come back to the list their place by the rules in force, where those were
/// replaced while the studies were read. `version` is [`settings::version_in_force`]. Their highest band stays: the
/// next rank raises it, and alerts.
pub(super) async fn refresh_places(
    tx: &DatabaseTransaction,
    studies: sea_orm::Condition,
    version: Option<i64>,
) -> Result<(), StoreError> {
    let Some(version) = version else {
        return Ok(());
    };
    let stale = study::Entity::find()
        .filter(studies)
        .filter(study::Column::SettingsVersion.ne(version))
        .order_by_asc(study::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    if stale.is_empty() {
        return Ok(());
    }
    let rules = settings::load(tx, version).await?;
    for study in stale {
        let (evidence, arrived_at) = (standing(&study).evidence, study.arrived_at);
        let mut row = study.into_active_model();
        put(&mut row, &evidence, arrived_at, &rules);
        row.update(tx).await?;
    }
    Ok(())
}

/// Asks for one more rank of a study that came back to the list without new images, if its band rose while it was not
/// on the list: the screening finds what it found before, and the rank alerts. `version` is
/// [`settings::version_in_force`].
pub(super) async fn catch_up(
    tx: &DatabaseTransaction,
    study_id: i64,
    version: Option<i64>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let found = study::Entity::find_by_id(study_id).one(tx).await?;
    let (Some(study), Some(version)) = (found, version) else {
        return Ok(());
    };
    let rules = settings::load(tx, version).await?;
    let reached = alert_band(&standing(&study).evidence, &rules.settings);
    // below it nothing alerts
    if reached > highest(&study) && reached >= Band::Elevated {
        jobs::enqueue(tx, jobs::SCREEN, study_id, now_ms).await?;
    }
    Ok(())
}

fn highest(study: &study::Model) -> Band {
    Band::parse(&study.highest_band).unwrap_or(Band::Pending)
}

/// Applies `change` to a study that is locked, and re-ranks it. Whoever began the transaction has asked for
/// [`Ranker::rules_in`] before it locked anything.
pub(super) async fn change_in(
    tx: &DatabaseTransaction,
    study: study::Model,
    ranker: &Ranker,
    now_ms: i64,
    change: impl FnOnce(&mut Standing),
) -> Result<(), StoreError> {
    let rules = ranker.rules_in(tx).await?;
    let before = standing(&study);
    let mut standing = before.clone();
    change(&mut standing);
    // a prior's results are compared with, not sent
    if standing.has_news_since(&before) && study.reading != "prior" {
        jobs::enqueue(tx, jobs::RESULTS, study.id, now_ms).await?;
    }
    if standing.wants_volumetry {
        jobs::enqueue(tx, jobs::VOLUMETRY, study.id, now_ms).await?;
    }
    update(tx, study, standing, &rules, ranker, now_ms).await
}

fn standing(study: &study::Model) -> Standing {
    let mut evidence: Evidence = serde_json::from_str(&study.evidence_json).unwrap_or_default();
    evidence.order = OrderPriority::parse(&study.order_priority).unwrap_or_default();
    Standing {
        study_uid: study.study_uid.clone(),
        evidence,
        state: study.state.clone(),
        not_analysed_reason: study.not_analysed_reason.clone(),
        volumetry: study.volumetry.clone(),
        volumetry_reason: study.volumetry_reason.clone(),
        looked_at: study.looked_at.clone(),
        screened_at: study.screened_at,
        analysed_at: study.analysed_at,
        wants_volumetry: false,
    }
}

async fn update(
    tx: &DatabaseTransaction,
    study: study::Model,
    standing: Standing,
    rules: &Rules,
    ranker: &Ranker,
    now_ms: i64,
) -> Result<(), StoreError> {
    let arrived_at = study.arrived_at;
    let highest = highest(&study);
    let (study_id, open) = (study.id, study.reading == "open");
    let institution = study.institution.clone();
    let mut known: Evidence = serde_json::from_str(&study.evidence_json).unwrap_or_default();
    known.order = standing.evidence.order;
    // an order comes from the RIS: only what was found in the images is news to it; volumes are, also where they are
    // doubtful and change no rank
    let measured = standing.volumetry == "done" && study.volumetry != "done";
    let found_more = study.state != standing.state || known != standing.evidence || measured;
    let same_rules = study.settings_version == rules.version;
    let order = standing.evidence.order;
    let is_ordered = study
        .accession
        .as_deref()
        .is_some_and(|a| !a.trim().is_empty());
    let reordered = is_ordered && study.order_priority != order.as_str();
    let band = rank(&standing.evidence, &rules.settings).band;
    let state = standing.state.clone();
    let mut row = study.into_active_model();
    row.state = Set(standing.state);
    row.not_analysed_reason = Set(standing.not_analysed_reason);
    row.volumetry = Set(standing.volumetry);
    row.volumetry_reason = Set(standing.volumetry_reason);
    row.looked_at = Set(standing.looked_at);
    row.screened_at = Set(standing.screened_at);
    row.analysed_at = Set(standing.analysed_at);
    // What nobody is told of is not reached yet: it alerts when the study comes back to the list.
    let reached = if open {
        place(&mut row, &standing.evidence, arrived_at, highest, rules)
    } else {
        put(&mut row, &standing.evidence, arrived_at, rules);
        highest
    };
    // found while it was not on the list
    let caught_up = same_rules && reached > highest;
    let is_news = found_more || caught_up;
    row.changed_at = Set(now_ms);
    row.update(tx).await?;
    let counted = standing.evidence.findings_that_count();
    let findings: Vec<&str> = counted.iter().map(|f| f.code.as_str()).collect();
    let facts = Facts {
        before: highest,
        reached,
        findings: &findings,
        institution: institution.as_deref(),
    };
    // Priors are kept, not listed and not alerted.
    if open && let Some(rule) = ranker.alerts.raises(facts, now_ms) {
        let risen = Risen {
            study_id,
            band: reached,
            rule,
        };
        // Boxed: it is rare, and would make every change of a rank as large as itself.
        Box::pin(alerts::raise(tx, risen, &ranker.alerts, now_ms)).await?;
    }
    if open && is_news {
        let news = News::Report(&state, band);
        Box::pin(subscriptions::notify(tx, study_id, news, now_ms)).await?;
        Box::pin(ris::tell(tx, study_id, highest, reached, now_ms)).await?;
    }
    if open && reordered {
        Box::pin(subscriptions::notify(
            tx,
            study_id,
            News::Order(order),
            now_ms,
        ))
        .await?;
    }
    Ok(())
}

/// Writes the columns that follow from the evidence; gives the highest band reached so far.
/// A partial series raises none, so that the same band on the whole one alerts.
pub(super) fn place(
    row: &mut study::ActiveModel,
    evidence: &Evidence,
    arrived_at: i64,
    highest: Band,
    rules: &Rules,
) -> Band {
    put(row, evidence, arrived_at, rules);
    let reached = alert_band(evidence, &rules.settings).max(highest);
    row.highest_band = Set(reached.as_str().to_owned());
    reached
}

/// The same without the highest band.
fn put(row: &mut study::ActiveModel, evidence: &Evidence, arrived_at: i64, rules: &Rules) {
    let ranking = rank(evidence, &rules.settings);
    row.order_priority = Set(evidence.order.as_str().to_owned());
    row.evidence_json = Set(serde_json::to_string(evidence).unwrap_or_default());
    row.ranking_json = Set(serde_json::to_string(&ranking).unwrap_or_default());
    row.settings_version = Set(rules.version);
    row.head_start_ms = Set(ranking.head_start_ms);
    row.effective_arrival_ms = Set(arrived_at - ranking.head_start_ms);
    row.band = Set(ranking.band.as_str().to_owned());
    row.p_abnormal = Set(ranking.p_abnormal);
}
