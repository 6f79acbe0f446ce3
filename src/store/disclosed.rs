//! To whom a patient was shown beside the entries of the trail, and what the server sent about the patient by itself.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};

use super::deliveries::{DeliveryRow, ROWS};
use super::entity::{shown_log, study};
use super::trail::Wanted;
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// Studies of one patient that are looked up in lists, the newest.
const STUDIES_MAX: u64 = 100;

/// Lists that were shown to somebody in one way, in which a patient stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenIn {
    /// Name of the account or token.
    pub who: String,
    /// list, api, fhir, intake or opinions.
    pub what: String,
    /// How many were kept.
    pub times: u64,
    /// When the last of them was.
    pub last_ms: UnixMillis,
}

impl Store {
    /// To whom lists were shown in which a study of this patient stood, as far as that is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lists_with(&self, wanted: &Wanted) -> Result<Vec<SeenIn>, StoreError> {
        let mut studies = study::Entity::find()
            .select_only()
            .column(study::Column::Id)
            .filter(study::Column::PatientId.eq(of(wanted.patient_id.as_ref())));
        if let Some(issuer) = &wanted.patient_issuer {
            studies = studies.filter(study::Column::PatientIssuer.eq(issuer));
        }
        let numbers: Vec<i64> = studies
            .order_by_desc(study::Column::Id)
            .limit(STUDIES_MAX)
            .into_tuple()
            .all(self.read())
            .await?;
        let mut found: BTreeMap<(String, String), BTreeMap<i64, UnixMillis>> = BTreeMap::new();
        for number in numbers {
            // a row of a list begins with the study's number: web::shown writes it so
            let rows: Vec<(i64, String, String, i64)> = shown_log::Entity::find()
                .select_only()
                .columns([
                    shown_log::Column::Id,
                    shown_log::Column::Who,
                    shown_log::Column::What,
                    shown_log::Column::At,
                ])
                .filter(shown_log::Column::StudyId.is_null())
                .filter(shown_log::Column::ShownJson.contains(format!("[{number},")))
                .filter(shown_log::Column::At.gte(wanted.from_ms.unwrap_or(0)))
                .filter(shown_log::Column::At.lt(wanted.until_ms.unwrap_or(i64::MAX)))
                .into_tuple()
                .all(self.read())
                .await?;
            for (id, who, what, at) in rows {
                found.entry((who, what)).or_default().insert(id, at);
            }
        }
        let seen = found.into_iter().map(|((who, what), lists)| SeenIn {
            who,
            what,
            times: lists.len() as u64,
            last_ms: lists.values().max().copied().unwrap_or(0),
        });
        Ok(seen.collect())
    }

    /// What destinations took about this patient's studies, newest first, before a delivery.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sent_about(
        &self,
        wanted: &Wanted,
        before: i64,
        most: u64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let sql = format!(
            "{ROWS} WHERE s.patient_id = $1 AND ($2 = '' OR s.patient_issuer = $2) \
             AND d.state = 'delivered' AND d.settled_at >= $3 AND d.settled_at < $4 \
             AND d.id < $5 ORDER BY d.id DESC LIMIT $6"
        );
        let values = vec![
            of(wanted.patient_id.as_ref()).into(),
            of(wanted.patient_issuer.as_ref()).into(),
            wanted.from_ms.unwrap_or(0).into(),
            wanted.until_ms.unwrap_or(i64::MAX).into(),
            before.into(),
            i64::try_from(most).unwrap_or(i64::MAX).into(),
        ];
        DeliveryRow::find_by_statement(self.statement(&sql, values))
            .all(self.read())
            .await
    }
}

fn of(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}
