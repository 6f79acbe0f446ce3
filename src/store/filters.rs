//! The choices of the list's filters, and filters that people keep.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QueryOrder, sea_query::OnConflict,
};

use super::entity::saved_filter;
use super::worklist::as_u64;
use super::{Store, StoreError};

/// Choices of one filter; of more, those with the most studies.
const CHOICES_MAX: usize = 200;
/// Filters that one person may keep.
pub const SAVED_MAX: u64 = 20;

/// A value that open studies have, and how many have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As it was sent.
    pub value: String,
    /// Open studies with it.
    pub studies: u64,
}

/// The values that open studies have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// States of screening.
    pub state: Vec<Choice>,
    /// (0008,0060)
    pub modality: Vec<Choice>,
    /// (0018,0015)
    pub region: Vec<Choice>,
    /// (0008,0080)
    pub location: Vec<Choice>,
    /// (0008,0090)
    pub referrer: Vec<Choice>,
}

/// A filter that a person keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFilter {
    /// For removing it.
    pub id: i64,
    /// What the person calls it.
    pub name: String,
    /// As it stands in the address bar.
    pub query: String,
}

#[derive(FromQueryResult)]
struct Counted {
    value: Option<String>,
    n: i64,
}

impl Store {
    /// The values by which the open list can be filtered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn filter_choices(&self) -> Result<Choices, StoreError> {
        Ok(Choices {
            state: self.choices("state").await?,
            modality: self.choices("modality").await?,
            region: self.choices("body_part").await?,
            location: self.choices("institution").await?,
            referrer: self.choices("referrer").await?,
        })
    }

    async fn choices(&self, column: &str) -> Result<Vec<Choice>, StoreError> {
        let sql = format!(
            "SELECT {column} AS value, COUNT(*) AS n FROM study WHERE reading = 'open' \
             GROUP BY {column} ORDER BY COUNT(*) DESC LIMIT {CHOICES_MAX}"
        );
        let rows = Counted::find_by_statement(self.statement(&sql, vec![]))
            .all(self.read())
            .await?;
        let mut choices: Vec<Choice> = rows
            .into_iter()
            .filter_map(|row| {
                Some(Choice {
                    value: row.value.filter(|v| !v.is_empty())?,
                    studies: as_u64(row.n),
                })
            })
            .collect();
        choices.sort_by(|a, b| a.value.cmp(&b.value));
        Ok(choices)
    }

    /// What a person keeps, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn saved_filters(&self, who: &str) -> Result<Vec<SavedFilter>, StoreError> {
        let rows = saved_filter::Entity::find()
            .filter(saved_filter::Column::Who.eq(who))
            .order_by_asc(saved_filter::Column::Name)
            .all(self.read())
            .await?;
        let saved = rows.into_iter().map(|row| SavedFilter {
            id: row.id,
            name: row.name,
            query: row.query,
        });
        Ok(saved.collect())
    }

    /// Keeps a filter, in place of one of the same name; false where there are too many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_filter(
        &self,
        who: &str,
        name: &str,
        query: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        use saved_filter::Column as C;
        let tx = self.begin().await?;
        let others = saved_filter::Entity::find()
            .filter(C::Who.eq(who))
            .filter(C::Name.ne(name))
            .count(&tx)
            .await?;
        if others >= SAVED_MAX {
            return Ok(false);
        }
        let row = saved_filter::ActiveModel {
            who: Set(who.to_owned()),
            name: Set(name.to_owned()),
            query: Set(query.to_owned()),
            created_at: Set(now_ms),
            ..Default::default()
        };
        saved_filter::Entity::insert(row)
            .on_conflict(
                OnConflict::columns([C::Who, C::Name])
                    .update_columns([C::Query, C::CreatedAt])
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes a filter that this person keeps; false where there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_filter(&self, who: &str, id: i64) -> Result<bool, StoreError> {
        let tx = self.begin().await?;
        let removed = saved_filter::Entity::delete_many()
            .filter(saved_filter::Column::Id.eq(id))
            .filter(saved_filter::Column::Who.eq(who))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(removed.rows_affected > 0)
    }
}
