//! The schema, as small timestamped steps that only go forward.
//!
//! A step that has been released is never edited. Each is one SQL file that both
//! SQLite and PostgreSQL read; `{identity}`, `{bytes}` (text that is compared byte by byte) and
//! `{append_only:TABLE}` stand for what they spell differently.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// All steps in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(SqlStep {
                name: "m20261123_000001_start",
                up: include_str!("m20261123_000001_start.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261124_000001_reading",
                up: include_str!("m20261124_000001_reading.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261124_000002_outbox",
                up: include_str!("m20261124_000002_outbox.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261124_000003_open_by_band",
                up: include_str!("m20261124_000003_open_by_band.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000010_alert_rounds",
                up: include_str!("m20261126_000010_alert_rounds.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000011_delivery_message",
                up: include_str!("m20261126_000011_delivery_message.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000012_resolved",
                up: include_str!("m20261126_000012_resolved.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000020_ris",
                up: include_str!("m20261126_000020_ris.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000021_hl7_results",
                up: include_str!("m20261126_000021_hl7_results.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000030_settings_in_force",
                up: include_str!("m20261126_000030_settings_in_force.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000031_list_filters",
                up: include_str!("m20261126_000031_list_filters.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000032_audit",
                up: include_str!("m20261126_000032_audit.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000040_measurement",
                up: include_str!("m20261126_000040_measurement.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000050_results",
                up: include_str!("m20261126_000050_results.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000060_list_index",
                up: include_str!("m20261126_000060_list_index.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000061_read_index",
                up: include_str!("m20261126_000061_read_index.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000070_fhir_subscriptions",
                up: include_str!("m20261126_000070_fhir_subscriptions.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000071_destinations",
                up: include_str!("m20261126_000071_destinations.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000080_commitment",
                up: include_str!("m20261126_000080_commitment.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000085_follow_up",
                up: include_str!("m20261126_000085_follow_up.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000086_priors",
                up: include_str!("m20261126_000086_priors.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000087_read_outcome",
                up: include_str!("m20261126_000087_read_outcome.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000072_access",
                up: include_str!("m20261126_000072_access.sql"),
            }),
            Box::new(SqlStep {
                name: "m20261126_000073_audit_trail",
                up: include_str!("m20261126_000073_audit_trail.sql"),
            }),
        ]
    }
}

struct SqlStep {
    name: &'static str,
    up: &'static str,
}

impl MigrationName for SqlStep {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SqlStep {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (identity, bytes) = match manager.get_database_backend() {
            DbBackend::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "BINARY"),
            _ => (
                "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
                "\"C\"",
            ),
        };
        let up = self.up.replace("{identity}", identity);
        let up = match up.split_once("{append_only:") {
            None => up,
            Some((before, rest)) => {
                let (table, after) = rest.split_once('}').unwrap_or((rest, ""));
                let guards = append_only(table.trim(), manager.get_database_backend());
                format!("{before}{guards}{after}")
            }
        };
        for statement in up.replace("{bytes}", bytes).split(";\n") {
            if !statement.trim().is_empty() {
                manager
                    .get_connection()
                    .execute_unprepared(statement)
                    .await?;
            }
        }
        Ok(())
    }
}

/// What keeps rows of a table from being changed or deleted.
fn append_only(table: &str, backend: DbBackend) -> String {
    if backend == DbBackend::Sqlite {
        return ["UPDATE", "DELETE"]
            .map(|deed| {
                format!(
                    "CREATE TRIGGER {table}_no_{deed} BEFORE {deed} ON {table} \
                     BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END;\n"
                )
            })
            .concat();
    }
    format!(
        "CREATE FUNCTION {table}_is_kept() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION '{table} is only ever added to'; END $$;\n\
         CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} \
         FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_kept();\n"
    )
}
