//! What stage two measured, one row a study, and scanner calibrations.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::OnConflict,
};

use super::entity::{measurement, scanner_calibration};
use super::{Store, StoreError, follow_up};
use crate::analysis::Measurement;
use crate::norms::ScannerCalibration;

/// One row of `measurement`, in plain types.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeasurementRow {
    /// Series, images, networks, norms and person: the same input is never measured twice.
    pub input: String,
    /// Why it could not be measured; `None` where it was.
    pub not_done: Option<String>,
    /// The result.
    pub result: Measurement,
    /// When it was kept; what keeping it is given does not count.
    pub created_at: i64,
}

/// A scanner's calibration, as kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptCalibration {
    /// The version that results name.
    pub version: i64,
    /// Manufacturer, model, serial number and field strength.
    pub scanner: String,
    /// SHA-256 of the measuring network it was made with.
    pub model_sha256: String,
    /// Local scans it rests on.
    pub scans: i64,
    /// The shifts.
    pub calibration: ScannerCalibration,
    /// When.
    pub made_at: i64,
    /// By whom.
    pub made_by: String,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// By whom.
    pub revoked_by: Option<String>,
}

impl From<scanner_calibration::Model> for KeptCalibration {
    fn from(row: scanner_calibration::Model) -> Self {
        Self {
            version: row.id,
            scanner: row.scanner,
            model_sha256: row.model_sha256,
            scans: row.scans,
            calibration: serde_json::from_str(&row.calibration_json).unwrap_or_default(),
            made_at: row.made_at,
            made_by: row.made_by,
            revoked_at: row.revoked_at,
            revoked_by: row.revoked_by,
        }
    }
}

impl Store {
    /// What was measured in a study.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn measurement(&self, study_id: i64) -> Result<Option<MeasurementRow>, StoreError> {
        let row = measurement::Entity::find()
            .filter(measurement::Column::StudyId.eq(study_id))
            .one(self.read())
            .await?;
        Ok(row.map(|row| MeasurementRow {
            input: row.input,
            not_done: (row.outcome != "done").then(|| row.reason.unwrap_or_default()),
            result: serde_json::from_str(&row.result_json).unwrap_or_default(),
            created_at: row.created_at,
        }))
    }

    /// What was measured in a study and stands: not while it is screened or measured again, and not
    /// where that came to nothing. Whatever tells people or systems of volumes tells these, and
    /// screening's only where there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn standing_measurement(
        &self,
        study_id: i64,
        volumetry: &str,
    ) -> Result<Option<MeasurementRow>, StoreError> {
        if volumetry != "done" {
            return Ok(None);
        }
        let row = self.measurement(study_id).await?;
        Ok(row.filter(|row| row.not_done.is_none() && !row.result.volumes.is_empty()))
    }

    /// A calibration by its version, also one that was revoked since.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calibration(&self, version: i64) -> Result<Option<KeptCalibration>, StoreError> {
        let row = scanner_calibration::Entity::find_by_id(version)
            .one(self.read())
            .await?;
        Ok(row.map(KeptCalibration::from))
    }

    /// Keeps a measurement in place of an earlier one of the same study.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_measurement(
        &self,
        study_id: i64,
        row: &MeasurementRow,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use measurement::Column as C;
        let outcome = if row.not_done.is_some() {
            "not_done"
        } else {
            "done"
        };
        let tx = self.begin().await?;
        measurement::Entity::insert(measurement::ActiveModel {
            study_id: Set(study_id),
            input: Set(row.input.clone()),
            outcome: Set(outcome.to_owned()),
            reason: Set(row.not_done.clone()),
            result_json: Set(serde_json::to_string(&row.result).unwrap_or_default()),
            created_at: Set(now_ms),
            ..Default::default()
        })
        .on_conflict(
            OnConflict::column(C::StudyId)
                .update_columns([C::Input, C::Outcome, C::Reason, C::ResultJson, C::CreatedAt])
                .to_owned(),
        )
        .exec_without_returning(&tx)
        .await?;
        follow_up::ask(&tx, study_id, now_ms).await?;
        tx.commit().await
    }

    /// The calibration in force for a scanner and a network: the newest that was not revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calibration_of(
        &self,
        scanner: &str,
        model_sha256: &str,
    ) -> Result<Option<KeptCalibration>, StoreError> {
        let row = scanner_calibration::Entity::find()
            .filter(scanner_calibration::Column::Scanner.eq(scanner))
            .filter(scanner_calibration::Column::ModelSha256.eq(model_sha256))
            .filter(scanner_calibration::Column::RevokedAt.is_null())
            .order_by_desc(scanner_calibration::Column::Id)
            .one(self.read())
            .await?;
        Ok(row.map(KeptCalibration::from))
    }

    /// All calibrations, newest first, revoked ones included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calibrations(&self) -> Result<Vec<KeptCalibration>, StoreError> {
        let rows = scanner_calibration::Entity::find()
            .order_by_desc(scanner_calibration::Column::Id)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(KeptCalibration::from).collect())
    }

    /// Keeps a calibration and gives its version.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_calibration(
        &self,
        scanner: &str,
        model_sha256: &str,
        scans: i64,
        calibration: &ScannerCalibration,
        (made_by, now_ms): (&str, i64),
    ) -> Result<i64, StoreError> {
        let tx = self.begin().await?;
        let row = scanner_calibration::ActiveModel {
            scanner: Set(scanner.to_owned()),
            model_sha256: Set(model_sha256.to_owned()),
            scans: Set(scans),
            calibration_json: Set(serde_json::to_string(calibration).unwrap_or_default()),
            made_at: Set(now_ms),
            made_by: Set(made_by.to_owned()),
            ..Default::default()
        };
        let version = scanner_calibration::Entity::insert(row)
            .exec(&tx)
            .await?
            .last_insert_id;
        tx.commit().await?;
        Ok(version)
    }

    /// Takes a calibration out of force; an earlier one of the scanner that was not revoked comes
    /// back. False where there is none of that version in force.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_calibration(
        &self,
        version: i64,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        use sea_orm::sea_query::Expr;
        let tx = self.begin().await?;
        let done = scanner_calibration::Entity::update_many()
            .col_expr(scanner_calibration::Column::RevokedAt, Expr::value(now_ms))
            .col_expr(scanner_calibration::Column::RevokedBy, Expr::value(by))
            .filter(scanner_calibration::Column::Id.eq(version))
            .filter(scanner_calibration::Column::RevokedAt.is_null())
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected > 0)
    }
}
