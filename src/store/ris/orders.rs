//! Orders of the RIS, and the priority that a study has by them.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait,
    DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::super::entity::{imaging_order, ris_order, study};
use super::super::ranks::{self, Ranker};
use super::super::{Store, StoreError};
use super::{At, candidates, keys, locked, patients};
use crate::clock::rfc3339;
use crate::triage::OrderPriority;
use crate::worklist::ris::{About, Identifier, KnownOrder, Match, RisOrder, StudyKeys};

/// Orders of one patient that are shown as possible.
const POSSIBLE_SHOWN: usize = 5;
/// Orders of one patient that are looked at for it, newest first.
const POSSIBLE_LOOKED_AT: u64 = 50;
/// An order that nothing was said of for so long is not shown as possible any more.
const POSSIBLE_MS_MAX: i64 = 7 * 86_400_000;

pub(super) async fn keep(
    tx: &DatabaseTransaction,
    orders: &[RisOrder],
    at: &At<'_>,
    changed: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    let (mut uids, mut accessions) = (BTreeSet::new(), BTreeSet::new());
    let mut earlier = Vec::new();
    for order in orders {
        let mut about = order.about.clone();
        if let Some(patient) = about.patient.take() {
            about.patient = Some(patients::current(tx, patient).await?);
        }
        let before = kept(tx, order, about.patient.as_ref(), at.sender).await?;
        // also those that it was about before: they may lose its priority
        for row in before.iter().map(about_of).chain([about.clone()]) {
            uids.extend(row.study_uid);
            accessions.extend(row.accession.map(|a| a.id));
        }
        earlier.extend(before.iter().filter(|b| counts(b)).map(about_of));
        write(tx, order, about, before, at).await?;
    }
    for id in candidates(tx, &uids, &accessions).await? {
        changed.extend(refresh(tx, id, &earlier, at.ranker, at.now_ms).await?);
    }
    Ok(())
}

/// The order of a message as it is kept: by its filler number, else by its placer number. One that was placed has no
/// filler number at first, and a ward does not repeat one that it was not told. Several fillers may do what was placed
/// once: two filler numbers are two orders, and what may mean several means none of them.
async fn kept(
    tx: &DatabaseTransaction,
    order: &RisOrder,
    patient: Option<&Identifier>,
    sender: &str,
) -> Result<Option<ris_order::Model>, StoreError> {
    let by_key = ris_order::Entity::find()
        .filter(ris_order::Column::OrderKey.eq(&order.key))
        .lock_exclusive()
        .one(tx)
        .await?;
    if by_key.is_some() && order.filler.is_some() {
        return Ok(by_key);
    }
    // of one patient only: placers use their numbers again, and there is an index by patient
    let (Some(placer), Some(patient)) = (&order.placer, patient) else {
        return Ok(by_key);
    };
    let mut theirs = ris_order::Entity::find()
        .filter(ris_order::Column::PatientId.eq(&patient.id))
        .filter(ris_order::Column::Sender.eq(sender))
        .filter(ris_order::Column::Placer.eq(placer))
        .order_by_asc(ris_order::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    theirs.retain(|o| patient.is(o.patient_id.as_deref(), o.patient_issuer.as_deref()));
    let only = theirs.pop().filter(|_| theirs.is_empty());
    let same = only.filter(|o| o.filler.is_none() || order.filler.is_none());
    Ok(same.or(by_key))
}

/// Whether an order says anything of the priority of its study.
fn counts(order: &ris_order::Model) -> bool {
    order.priority.is_some() || order.cancelled
}

/// What a message does not say stays as it was said before.
async fn write(
    tx: &DatabaseTransaction,
    order: &RisOrder,
    about: About,
    before: Option<ris_order::Model>,
    at: &At<'_>,
) -> Result<(), StoreError> {
    let known = before.as_ref().map(|b| b.cancelled);
    let keeps_accession = before.as_ref().is_some_and(|b| stands_in(order, &about, b));
    let mut row = before.map_or_else(
        || ris_order::ActiveModel {
            order_key: Set(order.key.clone()),
            sender: Set(at.sender.to_owned()),
            ..Default::default()
        },
        IntoActiveModel::into_active_model,
    );
    row.cancelled = Set(order.cancelled);
    if order.priority.is_some() || known != Some(order.cancelled) {
        row.said_at = Set(at.now_ms);
    }
    if let Some(priority) = order.priority {
        row.priority = Set(Some(priority.as_str().to_owned()));
    }
    if order.procedure.is_some() {
        row.procedure_text = Set(order.procedure.clone());
    }
    if order.placer.is_some() {
        row.placer = Set(order.placer.clone());
    }
    if order.filler.is_some() {
        // it may have been kept under its placer number until now
        row.order_key = Set(order.key.clone());
        row.filler = Set(order.filler.clone());
    }
    if about.study_uid.is_some() {
        row.study_uid = Set(about.study_uid);
    }
    if let Some(accession) = about.accession.filter(|_| !keeps_accession) {
        row.accession = Set(Some(accession.id));
        row.accession_issuer = Set(accession.issuer);
    }
    if let Some(patient) = about.patient {
        row.patient_id = Set(Some(patient.id));
        row.patient_issuer = Set(patient.issuer);
    }
    row.changed_at = Set(at.now_ms);
    if known.is_some() {
        row.update(tx).await?;
    } else {
        ris_order::Entity::insert(row)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// Whether the accession number of a message is only the number of its order, which stands in where none is said
/// (`hl7.accession`). Then one that was said before holds, and the study keeps its order.
fn stands_in(order: &RisOrder, about: &About, before: &ris_order::Model) -> bool {
    let is_number = |id: &str, numbers: [&Option<String>; 2]| {
        numbers.iter().any(|number| number.as_deref() == Some(id))
    };
    let (said, known) = (about.accession.as_ref(), before.accession.as_deref());
    said.is_some_and(|a| is_number(&a.id, [&order.placer, &order.filler]))
        && known.is_some_and(|id| !is_number(id, [&before.placer, &before.filler]))
}

/// Ranks a study by its orders; gives its UID where that changed anything. `earlier` is what orders were about before
/// that count: a study that they left, and that has no other, is routine. What its images asked for (0040,1003) is not
/// kept.
pub(in super::super) async fn refresh(
    tx: &DatabaseTransaction,
    study_id: i64,
    earlier: &[About],
    ranker: &Ranker,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let Some(study) = locked(tx, study_id).await? else {
        return Ok(None);
    };
    let wanted = wanted_priority(tx, &keys(&study)).await?;
    let had_one = || {
        earlier
            .iter()
            .any(|a| a.matches(&keys(&study)) == Match::Sure)
    };
    let Some(wanted) = wanted.or_else(|| had_one().then_some(OrderPriority::Routine)) else {
        return Ok(None);
    };
    if study.order_priority == wanted.as_str() {
        return Ok(None);
    }
    let uid = study.study_uid.clone();
    ranks::change_in(tx, study, ranker, now_ms, |s| s.evidence.order = wanted).await?;
    Ok(Some(uid))
}

/// The priority that the orders of a study ask for: the highest of those that are not cancelled.
/// What was set through the API for its accession number counts instead while it is the later word.
pub(in super::super) async fn wanted_priority(
    tx: &DatabaseTransaction,
    study: &StudyKeys<'_>,
) -> Result<Option<OrderPriority>, StoreError> {
    let mut orders = matching(tx, study).await?;
    orders.retain(counts);
    let said_at = orders.iter().map(|o| o.said_at).max();
    if let Some(accession) = study.accession {
        let set = imaging_order::Entity::find()
            .filter(imaging_order::Column::Accession.eq(accession))
            .one(tx)
            .await?;
        if let Some(set) = set.filter(|set| said_at.is_none_or(|at| set.changed_at > at)) {
            return Ok(OrderPriority::parse(&set.priority));
        }
    }
    let standing = orders.iter().filter(|o| !o.cancelled);
    let highest = standing
        .filter_map(|o| OrderPriority::parse(o.priority.as_deref()?))
        .max();
    // all of them cancelled: nothing special is wanted any more
    Ok(highest.or(said_at.map(|_| OrderPriority::Routine)))
}

/// The orders that are surely about a study.
async fn matching(
    connection: &impl ConnectionTrait,
    study: &StudyKeys<'_>,
) -> Result<Vec<ris_order::Model>, StoreError> {
    let mut any = Condition::any().add(ris_order::Column::StudyUid.eq(study.study_uid));
    if let Some(accession) = study.accession {
        any = any.add(ris_order::Column::Accession.eq(accession));
    }
    let mut found = ris_order::Entity::find()
        .filter(any)
        .order_by_asc(ris_order::Column::Id)
        .all(connection)
        .await?;
    found.retain(|o| about_of(o).matches(study) == Match::Sure);
    Ok(found)
}

fn about_of(order: &ris_order::Model) -> About {
    let identifier = |id: &Option<String>, issuer: &Option<String>| {
        Identifier::new(id.as_deref()?, issuer.as_deref())
    };
    About {
        study_uid: order.study_uid.clone(),
        accession: identifier(&order.accession, &order.accession_issuer),
        patient: identifier(&order.patient_id, &order.patient_issuer),
    }
}

fn known(order: ris_order::Model) -> KnownOrder {
    KnownOrder {
        order_key: order.order_key,
        placer: order.placer,
        filler: order.filler,
        accession: order.accession,
        priority: order.priority,
        cancelled: order.cancelled,
        procedure: order.procedure_text,
        changed_at: rfc3339(order.changed_at),
    }
}

impl Store {
    /// The orders of a study; where it has none, those of its patient that may be meant for it.
    pub(in super::super) async fn orders_of(
        &self,
        study: &study::Model,
    ) -> Result<(Vec<KnownOrder>, Vec<KnownOrder>), StoreError> {
        let study_keys = keys(study);
        let sure = matching(self.read(), &study_keys).await?;
        let Some(patient) = study_keys.patient_id.filter(|_| sure.is_empty()) else {
            return Ok((sure.into_iter().map(known).collect(), Vec::new()));
        };
        let near = (study.arrived_at - POSSIBLE_MS_MAX)..=(study.arrived_at + POSSIBLE_MS_MAX);
        let of_patient = ris_order::Entity::find()
            .filter(ris_order::Column::PatientId.eq(patient))
            .filter(ris_order::Column::Cancelled.eq(false))
            .filter(ris_order::Column::ChangedAt.between(*near.start(), *near.end()))
            .order_by_desc(ris_order::Column::Id)
            .limit(POSSIBLE_LOOKED_AT)
            .all(self.read())
            .await?;
        let possible = of_patient
            .into_iter()
            .filter(|o| about_of(o).matches(&study_keys) == Match::Possible)
            .take(POSSIBLE_SHOWN);
        Ok((Vec::new(), possible.map(known).collect()))
    }
}
