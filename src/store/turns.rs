//! Turns: what only one of several processes may do at a time.
//!
//! On PostgreSQL a turn is an advisory lock of a transaction of its own, so it ends with the process
//! that has it, however that ends. SQLite serves one process, and every duty is its own; within it one task
//! at a time has the studies.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use tokio::sync::OwnedMutexGuard;

use super::{Store, StoreError};

/// The space of our locks; another than that of the locks in one number.
const SPACE: i32 = 0x4653;
/// The space of locks on studies.
const STUDIES: i32 = 0x4654;

/// What is done by one process at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Bringing the schema up to date, and the first steps of a start.
    Start = 1,
    /// Going on with alerts.
    Escalation = 2,
    /// Asking paging servers.
    Pagers = 3,
    /// Removing images by age or for room, or making a backup: a backup must find every file.
    Retention = 4,
    /// Sending the audit trail on.
    AuditRecords = 5,
    /// Taking rights from an account: of two administrators who do so to each other one must be left.
    Rights = 6,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn(Has);

/// What makes it somebody's.
#[derive(Debug)]
enum Has {
    /// Nobody else is there.
    Nothing,
    /// Locks of a transaction.
    Locks(DatabaseTransaction),
    /// A lock of this process.
    Alone { _guard: OwnedMutexGuard<()> },
}

impl Turn {
    /// Lets the next have it. Dropping does so too, a little later.
    ///
    /// # Errors
    /// When the database fails; it is over then as well.
    pub async fn end(self) -> Result<(), StoreError> {
        match self.0 {
            Has::Locks(tx) => tx.commit().await,
            Has::Nothing | Has::Alone { .. } => Ok(()),
        }
    }
}

impl Store {
    /// Takes a turn, or `None` where another process has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn turn(&self, duty: Duty) -> Result<Option<Turn>, StoreError> {
        if !self.is_postgres() {
            return Ok(Some(Turn(Has::Nothing)));
        }
        let tx = self.begin().await?;
        let sql = "SELECT pg_try_advisory_xact_lock($1, $2) AS mine";
        let values = [SPACE.into(), (duty as i32).into()];
        let asked = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let mine = match tx.query_one_raw(asked).await? {
            Some(row) => row.try_get::<bool>("", "mine")?,
            None => false,
        };
        Ok(mine.then_some(Turn(Has::Locks(tx))))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn wait_for_turn(&self, duty: Duty) -> Result<Turn, StoreError> {
        self.take_locks(SPACE, &[duty as i32]).await
    }

    /// Keeps others from recording objects of these studies and from removing them, until the turn is dropped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_studies<'a>(
        &self,
        study_uids: impl IntoIterator<Item = &'a str>,
    ) -> Result<Turn, StoreError> {
        if !self.is_postgres() {
            let guard = self.studies.clone().lock_owned().await;
            return Ok(Turn(Has::Alone { _guard: guard }));
        }
        let mut keys: Vec<i32> = study_uids.into_iter().map(key).collect();
        // The same order everywhere, so that none waits for another in a circle.
        keys.sort_unstable();
        keys.dedup();
        self.take_locks(STUDIES, &keys).await
    }

    async fn take_locks(&self, space: i32, keys: &[i32]) -> Result<Turn, StoreError> {
        if !self.is_postgres() {
            return Ok(Turn(Has::Nothing));
        }
        let tx = self.begin().await?;
        for key in keys {
            lock(&tx, space, *key).await?;
        }
        Ok(Turn(Has::Locks(tx)))
    }
}

/// Waits for a turn that ends with this transaction. On SQLite a transaction that may write is alone anyway.
///
/// # Errors
/// When the database fails.
pub(super) async fn within(tx: &DatabaseTransaction, duty: Duty) -> Result<(), StoreError> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    lock(tx, SPACE, duty as i32).await
}

async fn lock(tx: &DatabaseTransaction, space: i32, key: i32) -> Result<(), StoreError> {
    let sql = "SELECT pg_advisory_xact_lock($1, $2)";
    let values = [space.into(), key.into()];
    let asked = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    tx.execute_raw(asked).await.map(drop)
}

/// Two studies with one key wait for each other, which does no harm (FNV-1a, 32 bit).
fn key(uid: &str) -> i32 {
    let hash = uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    i32::from_ne_bytes(hash.to_ne_bytes())
}
