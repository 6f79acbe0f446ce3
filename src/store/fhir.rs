//! Pages of studies for FHIR: all that are not priors, newest first.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::study;
use super::{Store, StoreError};
use crate::triage::{Band, OrderPriority};
use crate::worklist::StudyDetail;

/// Which studies are asked for; what is `None` is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyFilter {
    /// (0020,000D)
    pub study_uid: Option<String>,
    /// Row.
    pub key: Option<i64>,
    /// Accession number or Study Instance UID.
    pub identifier: Option<String>,
    /// (0010,0020)
    pub patient_id: Option<String>,
    /// Only those with an accession number.
    pub with_accession: bool,
    /// Screened, or found not to be analysable, and of one of these bands.
    pub bands: Option<Vec<Band>>,
    /// Only those whose order has one of these priorities.
    pub orders: Option<Vec<OrderPriority>>,
    /// Whether it was looked at yet.
    pub settled: Option<bool>,
}

impl StudyFilter {
    fn condition(&self) -> Condition {
        use study::Column as C;
        let mut all = Condition::all().add(C::Reading.ne("prior"));
        if let Some(uid) = &self.study_uid {
            all = all.add(C::StudyUid.eq(uid));
        }
        if let Some(key) = self.key {
            all = all.add(C::Id.eq(key));
        }
        if let Some(value) = &self.identifier {
            let either = Condition::any()
                .add(C::StudyUid.eq(value))
                .add(C::Accession.eq(value));
            all = all.add(either);
        }
        if let Some(id) = &self.patient_id {
            all = all.add(C::PatientId.eq(id));
        }
        if let Some(bands) = &self.bands {
            let bands = bands.iter().map(|band| band.as_str());
            all = all.add(C::Band.is_in(bands)).add(C::State.ne("received"));
        }
        if let Some(orders) = &self.orders {
            let orders = orders.iter().map(|order| order.as_str());
            all = all.add(C::OrderPriority.is_in(orders));
        }
        match self.settled {
            Some(true) => all = all.add(C::State.ne("received")),
            Some(false) => all = all.add(C::State.eq("received")),
            None => {}
        }
        if self.with_accession {
            all = all.add(C::Accession.is_not_null()).add(C::Accession.ne(""));
        }
        all
    }
}

impl Store {
    /// Studies with their keys, and how many there are on all pages.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn studies_page(
        &self,
        filter: &StudyFilter,
        offset: u64,
        count: u64,
        held_since_ms: i64,
    ) -> Result<(Vec<(i64, StudyDetail)>, u64), StoreError> {
        let found = study::Entity::find().filter(filter.condition());
        let total = found.clone().count(self.read()).await?;
        let page: Vec<(i64, String)> = found
            .select_only()
            .columns([study::Column::Id, study::Column::StudyUid])
            .order_by_desc(study::Column::Id)
            .offset(offset)
            .limit(count)
            .into_tuple()
            .all(self.read())
            .await?;
        let mut details = Vec::with_capacity(page.len());
        for (key, uid) in page {
            if let Some(detail) = self.study_detail(&uid, held_since_ms).await? {
                details.push((key, detail));
            }
        }
        Ok((details, total))
    }
}
