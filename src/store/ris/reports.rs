//! Final reports: a study that was reported is read.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait as _, DatabaseTransaction,
    EntityTrait, QueryFilter, Statement, sea_query::Expr,
};

use super::super::entity::{claim, final_report, study};
use super::super::{StoreError, opinions};
use super::{At, candidates, keys, locked, note, patients};
use crate::worklist::ris::{About, FinalReport, Identifier, Match};

pub(super) async fn keep(
    tx: &DatabaseTransaction,
    reports: &[FinalReport],
    at: &At<'_>,
    changed: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    let mut of = BTreeSet::new();
    for report in reports {
        let mut about = report.about.clone();
        if let Some(patient) = about.patient.take() {
            about.patient = Some(patients::current(tx, patient).await?);
        }
        let studies = studies_of(tx, &about).await?;
        if studies.is_empty() {
            insert(tx, about, report, at).await?;
            continue;
        }
        // one of its own for each, as some may still wait for images; and for the one that is named, if it comes later
        let named = about.study_uid;
        of.extend(studies.iter().map(|(id, _)| *id));
        let uids: BTreeSet<String> = studies
            .into_iter()
            .map(|(_, uid)| uid)
            .chain(named)
            .collect();
        for uid in uids {
            let about = About {
                study_uid: Some(uid),
                ..About::default()
            };
            insert(tx, about, report, at).await?;
        }
    }
    for id in of {
        changed.extend(apply_pending(tx, id, at.now_ms).await?);
    }
    Ok(())
}

/// Key and UID of the studies that a report closes: the one it names, or else all of its accession number and patient,
/// as one report covers what was done under one number.
async fn studies_of(
    tx: &DatabaseTransaction,
    about: &About,
) -> Result<Vec<(i64, String)>, StoreError> {
    let uids = about.study_uid.iter().cloned().collect();
    let accessions = about.accession.iter().map(|a| a.id.clone()).collect();
    let mut found = Vec::new();
    for id in candidates(tx, &uids, &accessions).await? {
        let Some(study) = locked(tx, id).await? else {
            continue;
        };
        if about.study_uid.as_deref() == Some(study.study_uid.as_str()) {
            return Ok(vec![(id, study.study_uid)]);
        }
        if about.matches(&keys(&study)) == Match::Sure {
            found.push((id, study.study_uid));
        }
    }
    Ok(found)
}

async fn insert(
    tx: &DatabaseTransaction,
    about: About,
    report: &FinalReport,
    at: &At<'_>,
) -> Result<(), StoreError> {
    let (accession, accession_issuer) = parts(about.accession);
    let (patient_id, patient_issuer) = parts(about.patient);
    let row = final_report::ActiveModel {
        sender: Set(at.shown_sender()),
        study_uid: Set(about.study_uid),
        accession: Set(accession),
        accession_issuer: Set(accession_issuer),
        patient_id: Set(patient_id),
        patient_issuer: Set(patient_issuer),
        received_at: Set(at.now_ms),
        outcome: Set(report.outcome.map(|o| o.as_str().to_owned())),
        ..Default::default()
    };
    final_report::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

fn parts(identifier: Option<Identifier>) -> (Option<String>, Option<String>) {
    identifier.map_or((None, None), |i| (Some(i.id), i.issuer))
}

/// Marks a study read where a final report waits for it and all its images are there; gives its UID then.
///
/// While images still arrive the report waits: they would put the study back on the list as "new images".
pub(in super::super) async fn apply_pending(
    tx: &DatabaseTransaction,
    study_id: i64,
    now_ms: i64,
) -> Result<Option<String>, StoreError> {
    let Some(study) = locked(tx, study_id).await? else {
        return Ok(None);
    };
    let mut any = Condition::any().add(final_report::Column::StudyUid.eq(&study.study_uid));
    if let Some(accession) = &study.accession {
        any = any.add(final_report::Column::Accession.eq(accession));
    }
    let mut ours = final_report::Entity::find()
        .filter(final_report::Column::AppliedAt.is_null())
        .filter(any)
        .all(tx)
        .await?;
    ours.retain(|r| about_of(r).matches(&keys(&study)) == Match::Sure);
    let Some(last) = ours.last() else {
        return Ok(None);
    };
    let open = study.reading == "open";
    if open && still_arriving(tx, study_id).await? {
        return Ok(None);
    }
    final_report::Entity::update_many()
        .col_expr(final_report::Column::AppliedAt, Expr::value(now_ms))
        .filter(final_report::Column::Id.is_in(ours.iter().map(|r| r.id)))
        .exec(tx)
        .await?;
    if let Some(said) = ours.iter().rev().find(|r| r.outcome.is_some()) {
        let outcome = said.outcome.as_deref().unwrap_or_default();
        opinions::note_report(tx, study_id, outcome, &said.sender, now_ms).await?;
    }
    if !open {
        return Ok(None);
    }
    claim::Entity::delete_many()
        .filter(claim::Column::StudyId.eq(study_id))
        .exec(tx)
        .await?;
    study::Entity::update_many()
        .col_expr(study::Column::Reading, Expr::value("read"))
        .col_expr(study::Column::ChangedAt, Expr::value(now_ms))
        .filter(study::Column::Id.eq(study_id))
        .exec(tx)
        .await?;
    let detail = format!("final report from {}", last.sender);
    note(tx, study_id, "read", detail, now_ms).await?;
    Ok(Some(study.study_uid))
}

async fn still_arriving(tx: &DatabaseTransaction, study_id: i64) -> Result<bool, StoreError> {
    let sql = "SELECT s.id FROM series s WHERE s.study_id = $1 AND s.own_result = $2 \
               AND (s.settled_images IS NULL OR s.settled_images <> \
               (SELECT COUNT(*) FROM instance i WHERE i.series_id = s.id)) LIMIT 1";
    let values = [study_id.into(), false.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.query_one_raw(statement).await?.is_some())
}

fn about_of(report: &final_report::Model) -> About {
    let identifier = |id: &Option<String>, issuer: &Option<String>| {
        Identifier::new(id.as_deref()?, issuer.as_deref())
    };
    About {
        study_uid: report.study_uid.clone(),
        accession: identifier(&report.accession, &report.accession_issuer),
        patient: identifier(&report.patient_id, &report.patient_issuer),
    }
}
