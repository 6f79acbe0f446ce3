//! Patients: what is known of them, and which identifiers mean one of them.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction,
    EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Statement, sea_query::Expr,
};

use super::super::arrivals::PatientKey;
use super::super::entity::{final_report, patient_link, ris_order, study};
use super::super::search::Searched;
use super::super::{Store, StoreError, follow_up, jobs};
use super::{At, note, orders, reports};
use crate::intake::age_years;
use crate::worklist::ris::{Demographics, Identifier, Merge, issuers_agree};

/// Links that are followed from one identifier; links are kept one long, so this is for what else may be there.
const LINKS_MAX: usize = 8;
/// A study that was read, and came longer ago, is not compared again with people of its age and sex.
const COMPARED_AGAIN_MS_MAX: i64 = 7 * 86_400_000;

/// The identifier that a patient has now.
pub(in super::super) async fn current(
    connection: &impl ConnectionTrait,
    mut patient: Identifier,
) -> Result<Identifier, StoreError> {
    for _ in 0..LINKS_MAX {
        let links = patient_link::Entity::find()
            .filter(patient_link::Column::PriorId.eq(&patient.id))
            .order_by_desc(patient_link::Column::Id)
            .all(connection)
            .await?;
        let link = links
            .into_iter()
            .find(|l| issuers_agree(l.prior_issuer.as_deref(), patient.issuer.as_deref()));
        let Some(link) = link else { break };
        patient = Identifier {
            id: link.patient_id,
            issuer: link.patient_issuer,
        };
    }
    Ok(patient)
}

pub(super) async fn update(
    tx: &DatabaseTransaction,
    known: &Demographics,
    at: &At<'_>,
    changed: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    let patient = current(tx, known.patient.clone()).await?;
    for study in studies_of(tx, &patient).await? {
        let age = known
            .birth_date
            .as_deref()
            .and_then(|birth| age_years(Some(birth), study.study_date.as_deref(), None));
        let new = study::Model {
            patient_name: known.name.clone().or_else(|| study.patient_name.clone()),
            sex: known.sex.clone().or_else(|| study.sex.clone()),
            birth_date: known
                .birth_date
                .clone()
                .or_else(|| study.birth_date.clone()),
            age_years: age.or(study.age_years),
            ..study.clone()
        };
        if new == study {
            continue;
        }
        if (new.age_years, &new.sex) != (study.age_years, &study.sex) {
            compare_again(tx, &study, at.now_ms).await?;
        }
        let mut row = study.clone().into_active_model();
        row.search_text = Set(Searched::from(&new).text());
        row.patient_name = Set(new.patient_name);
        row.sex = Set(new.sex);
        row.birth_date = Set(new.birth_date);
        row.age_years = Set(new.age_years);
        row.changed_at = Set(at.now_ms);
        row.update(tx).await?;
        changed.insert(study.study_uid);
    }
    Ok(())
}

/// Asks for screening where its volumes were compared with people of another age or sex, or are just being. Measuring
/// follows it. A study without images would lose what was found, and old ones would keep today's waiting.
async fn compare_again(
    tx: &DatabaseTransaction,
    study: &study::Model,
    now_ms: i64,
) -> Result<(), StoreError> {
    let is_recent = study.arrived_at >= now_ms - COMPARED_AGAIN_MS_MAX;
    let is_wanted = study.reading == "open" || study.reading == "read" && is_recent;
    // of what was not analysed nothing was compared
    let is_compared = study.state == "screened" || study.state == "received";
    if is_wanted && is_compared && has_settled_images(tx, study.id).await? {
        jobs::enqueue(tx, jobs::SCREEN, study.id, now_ms).await?;
    }
    Ok(())
}

/// Whether images are there that screening was asked for: not only what this server made of them.
async fn has_settled_images(tx: &DatabaseTransaction, study_id: i64) -> Result<bool, StoreError> {
    let sql = "SELECT s.id FROM series s WHERE s.study_id = $1 AND s.own_result = $2 \
               AND s.settled_images IS NOT NULL \
               AND EXISTS (SELECT 1 FROM instance i WHERE i.series_id = s.id) LIMIT 1";
    let values = [study_id.into(), false.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.query_one_raw(statement).await?.is_some())
}

pub(super) async fn merge(
    tx: &DatabaseTransaction,
    merges: &[Merge],
    at: &At<'_>,
    changed: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    for merge in merges {
        let surviving = &merge.surviving.patient;
        if surviving.is(Some(&merge.prior.id), merge.prior.issuer.as_deref()) {
            continue;
        }
        let moved = studies_of(tx, &merge.prior).await?;
        link(tx, &merge.prior, surviving, at.now_ms).await?;
        for study in moved {
            let detail = format!("{} into {}", merge.prior.id, surviving.id);
            note(tx, study.id, "merged", detail, at.now_ms).await?;
            changed.insert(study.study_uid.clone());
            let text = Searched {
                patient_id: Some(&surviving.id),
                ..Searched::from(&study)
            }
            .text();
            let mut row = study.into_active_model();
            row.search_text = Set(text);
            row.patient_id = Set(Some(surviving.id.clone()));
            row.patient_issuer = Set(surviving.issuer_name().map(str::to_owned));
            row.changed_at = Set(at.now_ms);
            let moved = row.update(tx).await?;
            follow_up::ask(tx, moved.id, at.now_ms).await?;
        }
        readdress(tx, &merge.prior, surviving).await?;
        update(tx, &merge.surviving, at, changed).await?;
        // an order or a report of the one may be about a study of the other
        for study in studies_of(tx, surviving).await? {
            changed.extend(orders::refresh(tx, study.id, &[], at.ranker, at.now_ms).await?);
            changed.extend(reports::apply_pending(tx, study.id, at.now_ms).await?);
        }
    }
    Ok(())
}

/// Studies of a patient, locked in the order of their keys.
async fn studies_of(
    tx: &DatabaseTransaction,
    patient: &Identifier,
) -> Result<Vec<study::Model>, StoreError> {
    let mut of_id = study::Entity::find()
        .filter(study::Column::PatientId.eq(&patient.id))
        .order_by_asc(study::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    of_id.retain(|s| patient.is(s.patient_id.as_deref(), s.patient_issuer.as_deref()));
    Ok(of_id)
}

/// From now on the prior identifier means the surviving patient.
async fn link(
    tx: &DatabaseTransaction,
    prior: &Identifier,
    surviving: &Identifier,
    now_ms: i64,
) -> Result<(), StoreError> {
    use patient_link::Column as C;
    let all = patient_link::Entity::find()
        .filter(
            sea_orm::Condition::any()
                .add(C::PriorId.is_in([&prior.id, &surviving.id]))
                .add(C::PatientId.eq(&prior.id)),
        )
        .all(tx)
        .await?;
    for old in all {
        let from = |who: &Identifier| who.is(Some(&old.prior_id), old.prior_issuer.as_deref());
        // an identifier that survives is no longer anybody's prior one
        if from(prior) || from(surviving) {
            patient_link::Entity::delete_by_id(old.id).exec(tx).await?;
        } else if prior.is(Some(&old.patient_id), old.patient_issuer.as_deref()) {
            let mut row = old.into_active_model();
            row.patient_id = Set(surviving.id.clone());
            row.patient_issuer = Set(surviving.issuer.clone());
            row.update(tx).await?;
        }
    }
    let row = patient_link::ActiveModel {
        prior_id: Set(prior.id.clone()),
        prior_issuer: Set(prior.issuer.clone()),
        patient_id: Set(surviving.id.clone()),
        patient_issuer: Set(surviving.issuer.clone()),
        linked_at: Set(now_ms),
        ..Default::default()
    };
    patient_link::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Orders of the prior patient, and reports that still wait, are the surviving one's.
async fn readdress(
    tx: &DatabaseTransaction,
    prior: &Identifier,
    surviving: &Identifier,
) -> Result<(), StoreError> {
    let of_prior =
        |id: &Option<String>, issuer: &Option<String>| prior.is(id.as_deref(), issuer.as_deref());
    let orders: Vec<i64> = ris_order::Entity::find()
        .filter(ris_order::Column::PatientId.eq(&prior.id))
        .all(tx)
        .await?
        .into_iter()
        .filter(|o| of_prior(&o.patient_id, &o.patient_issuer))
        .map(|o| o.id)
        .collect();
    ris_order::Entity::update_many()
        .col_expr(ris_order::Column::PatientId, Expr::value(&surviving.id))
        .col_expr(
            ris_order::Column::PatientIssuer,
            Expr::value(surviving.issuer.clone()),
        )
        .filter(ris_order::Column::Id.is_in(orders))
        .exec(tx)
        .await?;
    let waiting: Vec<i64> = final_report::Entity::find()
        .filter(final_report::Column::PatientId.eq(&prior.id))
        .filter(final_report::Column::AppliedAt.is_null())
        .all(tx)
        .await?
        .into_iter()
        .filter(|r| of_prior(&r.patient_id, &r.patient_issuer))
        .map(|r| r.id)
        .collect();
    final_report::Entity::update_many()
        .col_expr(final_report::Column::PatientId, Expr::value(&surviving.id))
        .col_expr(
            final_report::Column::PatientIssuer,
            Expr::value(surviving.issuer.clone()),
        )
        .filter(final_report::Column::Id.is_in(waiting))
        .exec(tx)
        .await?;
    Ok(())
}

impl Store {
    /// Whether a study belongs to the patient that an object names, by what was merged since.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_patient_of(
        &self,
        study_uid: &str,
        patient: &PatientKey,
    ) -> Result<bool, StoreError> {
        let named = patient
            .0
            .as_deref()
            .and_then(|id| Identifier::new(id, patient.1.as_deref()));
        let Some(named) = named else {
            return Ok(false);
        };
        let now = current(self.read(), named).await?;
        let study: Option<PatientKey> = study::Entity::find()
            .select_only()
            .columns([study::Column::PatientId, study::Column::PatientIssuer])
            .filter(study::Column::StudyUid.eq(study_uid))
            .into_tuple()
            .one(self.read())
            .await?;
        Ok(study.is_some_and(|(id, issuer)| now.is(id.as_deref(), issuer.as_deref())))
    }
}
