//! A consistent copy of the database while it is used, and the way back.
//!
//! SQLite copies itself (`VACUUM INTO`). PostgreSQL is read in one snapshot (`REPEATABLE READ`), a file of
//! `COPY` a table; nothing but the database itself is needed, and a copy fits any later PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::TryStreamExt as _;
use sea_orm::sqlx::{self, PgPool, Postgres, Row as _, Transaction};
use sea_orm::{ConnectionTrait, FromQueryResult};
use sea_orm_migration::MigratorTrait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::migrations::Migrator;
use super::{Store, StoreError};

/// The copy of SQLite.
pub const SQLITE_FILE: &str = "firstread.db";
/// What is not copied: who lived then, and what the way back writes itself.
const LEFT_OUT: [&str; 2] = ["process", "seaql_migrations"];
/// Bytes of a copy that are sent at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Files that are asked for at once.
const PAGE: i64 = 20_000;

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpFacts {
    /// sqlite or postgres.
    pub database: String,
    /// Steps of the schema, in order.
    pub migrations: Vec<String>,
    /// PostgreSQL: tables in the order in which they are filled, with their columns.
    pub tables: Vec<TableFacts>,
}

/// A table of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// Its columns as they are written.
    pub columns: Vec<String>,
}

/// A file that the database counts on, relative to the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedOn {
    /// Where.
    pub path: String,
    /// How long it must be, where that is known.
    pub size_bytes: Option<i64>,
}

#[derive(FromQueryResult)]
struct FileRow {
    id: i64,
    path: String,
    size_bytes: Option<i64>,
}

fn text(e: impl std::fmt::Display) -> StoreError {
    StoreError::Custom(e.to_string())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl TableFacts {
    fn copied(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|c| quoted(c)).collect();
        format!("{} ({})", quoted(&self.name), columns.join(", "))
    }
}

impl Store {
    /// Connects to a database as it is.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open_as_it_is(url: Option<&str>, data: &Path) -> Result<Self, StoreError> {
        Self::connect(url, data, super::POSTGRES_CONNECTIONS).await
    }

    /// Copies the database as it is at one moment into a folder that is empty.
    ///
    /// # Errors
    /// When the database or the folder fails.
    pub async fn dump(&self, into: &Path) -> Result<DumpFacts, StoreError> {
        let migrations = self.migrations_applied().await?;
        if self.is_postgres() {
            let tables = dump_postgres(self.read().get_postgres_connection_pool(), into).await?;
            return Ok(DumpFacts {
                database: "postgres".into(),
                migrations,
                tables,
            });
        }
        let file = into.join(SQLITE_FILE);
        let sql = "VACUUM INTO $1";
        let to = file.to_string_lossy().into_owned();
        self.read()
            .execute_raw(self.statement(sql, vec![to.into()]))
            .await?;
        std::fs::File::open(&file)
            .and_then(|f| f.sync_all())
            .map_err(text)?;
        Ok(DumpFacts {
            database: "sqlite".into(),
            migrations,
            tables: Vec::new(),
        })
    }

    /// Fills an empty PostgreSQL with a copy; its schema is as it was then.
    ///
    /// # Errors
    /// When the database is not empty, does not fit, or fails.
    pub async fn load(&self, from: &Path, facts: &DumpFacts) -> Result<(), StoreError> {
        if !self.is_postgres() {
            return Err(text("a copy of PostgreSQL goes back into PostgreSQL only"));
        }
        let pool = self.read().get_postgres_connection_pool();
        let tables: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()",
        )
        .fetch_one(pool)
        .await
        .map_err(text)?;
        if tables > 0 {
            return Err(text("the database is not empty: make a new one"));
        }
        let steps = steps_of(facts)?;
        Migrator::up(&self.write, Some(steps)).await?;
        load_postgres(pool, from, facts).await
    }

    /// Names of the steps that were applied, in our order.
    async fn migrations_applied(&self) -> Result<Vec<String>, StoreError> {
        #[derive(FromQueryResult)]
        struct Applied {
            version: String,
        }
        let sql = "SELECT version FROM seaql_migrations";
        let found = Applied::find_by_statement(self.statement(sql, vec![]))
            .all(self.read())
            .await?;
        let applied: BTreeSet<String> = found.into_iter().map(|row| row.version).collect();
        let known = known_steps();
        if let Some(newer) = applied.iter().find(|step| !known.contains(step)) {
            return Err(text(format!(
                "the schema is of a newer version: this one does not know {newer}"
            )));
        }
        Ok(known.into_iter().filter(|s| applied.contains(s)).collect())
    }

    /// Files that the database counts on, from a key on: those of a kind, in pages. `None` after the last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn counted_on(
        &self,
        kind: Kept,
        after: i64,
    ) -> Result<Option<(i64, Vec<CountedOn>)>, StoreError> {
        let (table, size) = match kind {
            Kept::Objects => ("instance", "size_bytes"),
            Kept::Quarantine => ("quarantine", "size_bytes"),
            Kept::Results => ("result_object", "NULL"),
        };
        let sql = format!(
            "SELECT id, path, CAST({size} AS BIGINT) AS size_bytes FROM {table} \
             WHERE id > $1 AND path IS NOT NULL ORDER BY id LIMIT $2"
        );
        let rows =
            FileRow::find_by_statement(self.statement(&sql, vec![after.into(), PAGE.into()]))
                .all(self.read())
                .await?;
        let Some(last) = rows.last().map(|row| row.id) else {
            return Ok(None);
        };
        let files = rows.into_iter().map(|row| CountedOn {
            path: row.path,
            size_bytes: row.size_bytes,
        });
        Ok(Some((last, files.collect())))
    }
}

/// Kinds of files that the database counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// What was acknowledged.
    Objects,
    /// What was kept aside.
    Quarantine,
    /// Our own objects.
    Results,
}

fn known_steps() -> Vec<String> {
    let all = Migrator::migrations().into_iter();
    all.map(|step| step.name().to_owned()).collect()
}

/// How many of our steps make the schema of a copy.
fn steps_of(facts: &DumpFacts) -> Result<u32, StoreError> {
    let known = known_steps();
    let fits = facts.migrations.len() <= known.len()
        && known[..facts.migrations.len()] == facts.migrations[..];
    if !fits {
        return Err(text(
            "the copy's schema is of a newer version, or of none that was released",
        ));
    }
    u32::try_from(facts.migrations.len()).map_err(text)
}

async fn dump_postgres(pool: &PgPool, into: &Path) -> Result<Vec<TableFacts>, StoreError> {
    let mut tx = pool.begin().await.map_err(text)?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *tx)
        .await
        .map_err(text)?;
    let tables = tables_in_order(&mut tx).await?;
    for table in &tables {
        let file = into.join(format!("{}.copy", table.name));
        let mut file = tokio::fs::File::create(&file).await.map_err(text)?;
        let copy = format!("COPY {} TO STDOUT", table.copied());
        let mut rows = tx.copy_out_raw(&copy).await.map_err(text)?;
        while let Some(chunk) = rows.try_next().await.map_err(text)? {
            file.write_all(&chunk).await.map_err(text)?;
        }
        file.sync_all().await.map_err(text)?;
    }
    tx.rollback().await.map_err(text)?;
    Ok(tables)
}

/// Tables, those that others refer to first.
async fn tables_in_order(
    tx: &mut Transaction<'static, Postgres>,
) -> Result<Vec<TableFacts>, StoreError> {
    let rows = sqlx::query(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND is_generated = 'NEVER' \
         ORDER BY table_name, ordinal_position",
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(text)?;
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        let table: String = row.try_get(0).map_err(text)?;
        if !LEFT_OUT.contains(&table.as_str()) {
            let column = row.try_get(1).map_err(text)?;
            columns.entry(table).or_default().push(column);
        }
    }
    let rows = sqlx::query(
        "SELECT f.relname::text, t.relname::text FROM pg_constraint c \
         JOIN pg_class f ON f.oid = c.conrelid JOIN pg_class t ON t.oid = c.confrelid \
         JOIN pg_namespace n ON n.oid = c.connamespace \
         WHERE c.contype = 'f' AND n.nspname = current_schema() AND f.oid <> t.oid",
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(text)?;
    let mut refers: BTreeSet<(String, String)> = BTreeSet::new();
    for row in rows {
        refers.insert((row.try_get(0).map_err(text)?, row.try_get(1).map_err(text)?));
    }
    let mut ordered: Vec<TableFacts> = Vec::new();
    while !columns.is_empty() {
        let left = |name: &str| columns.contains_key(name);
        let waits = |name: &String| refers.iter().any(|(from, to)| from == name && left(to));
        let free: Vec<String> = columns.keys().filter(|t| !waits(t)).cloned().collect();
        if free.is_empty() {
            return Err(text("tables refer to each other in a circle"));
        }
        for name in free {
            if let Some(columns) = columns.remove(&name) {
                ordered.push(TableFacts { name, columns });
            }
        }
    }
    Ok(ordered)
}

async fn load_postgres(pool: &PgPool, from: &Path, facts: &DumpFacts) -> Result<(), StoreError> {
    let mut tx = pool.begin().await.map_err(text)?;
    // The schema's own first rows: the copy has them too. What is only ever added to has none,
    // and its trigger lets nothing be taken away.
    let kept: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT t.tgisinternal AND (t.tgtype & 32) <> 0 AND n.nspname = current_schema()",
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(text)?;
    let emptied = facts.tables.iter().filter(|t| !kept.contains(&t.name));
    let emptied: Vec<String> = emptied.map(|t| quoted(&t.name)).collect();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "TRUNCATE {}",
        emptied.join(", ")
    )))
    .execute(&mut *tx)
    .await
    .map_err(text)?;
    for table in &facts.tables {
        let place = from.join(format!("{}.copy", table.name));
        let mut file = tokio::fs::File::open(&place)
            .await
            .map_err(|e| text(format!("could not read {}: {e}", place.display())))?;
        let copy = format!("COPY {} FROM STDIN", table.copied());
        let mut rows = tx.copy_in_raw(&copy).await.map_err(text)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = file.read(&mut chunk).await.map_err(text)?;
            if read == 0 {
                break;
            }
            rows.send(&chunk[..read]).await.map_err(text)?;
        }
        rows.finish().await.map_err(text)?;
        go_on_counting(&mut tx, table).await?;
    }
    tx.commit().await.map_err(text)
}

/// The next row gets a number of its own.
async fn go_on_counting(
    tx: &mut Transaction<'static, Postgres>,
    table: &TableFacts,
) -> Result<(), StoreError> {
    if !table.columns.iter().any(|c| c == "id") {
        return Ok(());
    }
    let name = quoted(&table.name);
    let sequence: Option<String> = sqlx::query_scalar("SELECT pg_get_serial_sequence($1, 'id')")
        .bind(&name)
        .fetch_one(&mut **tx)
        .await
        .map_err(text)?;
    let Some(sequence) = sequence else {
        return Ok(());
    };
    let sql = format!("SELECT setval($1, COALESCE((SELECT MAX(id) FROM {name}), 0) + 1, false)");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(sequence)
        .execute(&mut **tx)
        .await
        .map_err(text)?;
    Ok(())
}
