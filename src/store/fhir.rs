//! Pages of studies for FHIR: all that are not priors, newest first.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::study;
use super::{Store, StoreError};
use crate::triage::{Band, OrderPriority};
use crate::worklist::StudyDetail;

/// A word for a study that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudyName {
    /// (0020,000D)
    Uid(String),
    /// (0008,0050)
    Accession(String),
}

/// Which studies are asked for; what is `None` is not asked. Of several values of one, any will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyFilter {
    /// (0020,000D)
    pub study_uids: Option<Vec<String>>,
    /// Rows.
    pub keys: Option<Vec<i64>>,
    /// By one name of each of these.
    pub names: Vec<Vec<StudyName>>,
    /// (0010,0020): one of each of these.
    pub patient_ids: Vec<Vec<String>>,
    /// Only those with an accession number.
    pub with_accession: bool,
    /// Screened, or found not to be analysable, and of one of these bands.
    pub bands: Option<Vec<Band>>,
    /// Only those whose order has one of these priorities.
    pub orders: Option<Vec<OrderPriority>>,
    /// Whether it was looked at yet.
    pub settled: Option<Vec<bool>>,
}

impl StudyFilter {
    fn condition(&self) -> Condition {
        use study::Column as C;
        let mut all = Condition::all().add(C::Reading.ne("prior"));
        if let Some(uids) = &self.study_uids {
            all = all.add(C::StudyUid.is_in(uids));
        }
        if let Some(keys) = &self.keys {
            all = all.add(C::Id.is_in(keys.iter().copied()));
        }
        for names in &self.names {
            let any = names.iter().map(|name| match name {
                StudyName::Uid(uid) => C::StudyUid.eq(uid),
                StudyName::Accession(number) => C::Accession.eq(number),
            });
            all = all.add(any.fold(Condition::any(), Condition::add));
        }
        for ids in &self.patient_ids {
            all = all.add(C::PatientId.is_in(ids));
        }
        if let Some(bands) = &self.bands {
            let bands = bands.iter().map(|band| band.as_str());
            all = all.add(C::Band.is_in(bands)).add(C::State.ne("received"));
        }
        if let Some(orders) = &self.orders {
            let orders = orders.iter().map(|order| order.as_str());
            all = all.add(C::OrderPriority.is_in(orders));
        }
        if let Some(wanted) = &self.settled {
            let settled = |is: bool| {
                if is {
                    C::State.ne("received")
                } else {
                    C::State.eq("received")
                }
            };
            // none of them: nothing is both
            all = if wanted.is_empty() {
                all.add(C::Id.is_null())
            } else {
                let any = wanted.iter().map(|is| settled(*is));
                all.add(any.fold(Condition::any(), Condition::add))
            };
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
