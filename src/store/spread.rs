//! News between processes: PostgreSQL's NOTIFY and LISTEN. SQLite serves one process and needs none.

use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{Store, StoreError};

/// The channel.
const CHANNEL: &str = "firstread_news";
/// Studies in one message: PostgreSQL takes 8,000 bytes.
pub const SPREAD_MAX: usize = 100;

/// What another process said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spread {
    /// These studies changed (0020,000D).
    Studies(Vec<String>),
    /// Any row may have changed.
    Everything,
    /// There is work.
    Work,
}

impl Spread {
    fn write(&self, run: &str) -> String {
        let said = match self {
            Self::Studies(uids) => format!("s{}", uids.join(",")),
            Self::Everything => "e".to_owned(),
            Self::Work => "w".to_owned(),
        };
        format!("{run}/{said}")
    }

    /// `None` where it is our own, or nothing we know.
    fn read(payload: &str, run: &str) -> Option<Self> {
        let (from, said) = payload.split_once('/')?;
        if from == run {
            return None;
        }
        match said.split_at_checked(1)? {
            ("s", uids) => Some(Self::Studies(uids.split(',').map(str::to_owned).collect())),
            ("e", _) => Some(Self::Everything),
            ("w", _) => Some(Self::Work),
            _ => None,
        }
    }
}

/// Hears what other processes say.
pub struct Ear {
    listener: PgListener,
    run: String,
}

impl Ear {
    /// The next that another process says. After a connection was lost, that anything may have changed.
    ///
    /// # Errors
    /// When the database cannot be reached again.
    pub async fn hear(&mut self) -> Result<Spread, StoreError> {
        loop {
            let heard = self.listener.try_recv().await;
            match heard.map_err(|e| StoreError::Custom(e.to_string()))? {
                None => return Ok(Spread::Everything),
                Some(said) => {
                    if let Some(spread) = Spread::read(said.payload(), &self.run) {
                        return Ok(spread);
                    }
                }
            }
        }
    }
}

impl Store {
    /// Tells the other processes; nothing to do where there can be none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn spread(&self, news: &Spread) -> Result<(), StoreError> {
        if !self.is_postgres() {
            return Ok(());
        }
        let payload = news.write(self.run().unwrap_or_default());
        let sql = "SELECT pg_notify($1, $2)";
        let values = [CHANNEL.into(), payload.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        self.read().execute_raw(statement).await?;
        Ok(())
    }

    /// Listens to other processes, by a connection of its own; `None` where there can be none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn ear(&self) -> Result<Option<Ear>, StoreError> {
        if !self.is_postgres() {
            return Ok(None);
        }
        let text = |e: sea_orm::sqlx::Error| StoreError::Custom(e.to_string());
        let pool = self.read().get_postgres_connection_pool();
        let mut listener = PgListener::connect_with(pool).await.map_err(text)?;
        listener.listen(CHANNEL).await.map_err(text)?;
        Ok(Some(Ear {
            listener,
            run: self.run().unwrap_or_default().to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_is_heard_by_the_others() {
        let all = [
            Spread::Studies(vec!["1.2".into(), "1.3".into()]),
            Spread::Everything,
            Spread::Work,
        ];
        for news in all {
            let payload = news.write("a");
            assert_eq!(Spread::read(&payload, "b"), Some(news));
            assert_eq!(Spread::read(&payload, "a"), None, "one's own");
        }
        for bad in ["", "a", "a/", "a/x", "/"] {
            assert_eq!(Spread::read(bad, "b"), None, "{bad}");
        }
        let full = Spread::Studies(vec!["1".repeat(64); SPREAD_MAX]);
        assert!(full.write("0123456789abcdef").len() < 8000);
    }
}
