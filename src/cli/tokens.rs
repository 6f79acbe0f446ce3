//! `token`: bearer tokens of programs.

use std::path::PathBuf;

use clap::Subcommand;

use super::audit::{database, keep};
use super::{BAD_INPUT, Failure, block_on, open_store, role, settings};
use crate::clock::{Clock as _, SystemClock, rfc3339};
use crate::config::Config;
use crate::store::accounts::{NewToken, Role};
use crate::web::read_scopes;

const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Subcommand)]
pub(super) enum Tokens {
    /// Makes a token and prints it; it is never shown again.
    Create {
        /// Whose it is.
        name: String,
        /// reader, technologist, admin, auditor or integration.
        #[arg(long, value_parser = role)]
        role: Role,
        /// What of its role it may do: list, work, orders, fhir, subscriptions; again for more. Without: all of it.
        #[arg(long)]
        scope: Vec<String>,
        /// Days until it ends; without, it does not.
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: Option<i64>,
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Lists tokens: number, name, role, scopes, last used, end.
    List {
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Ends a token at once.
    Revoke {
        /// Its number in the list.
        number: i64,
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(arguments: Tokens) -> Result<(), Failure> {
    match arguments {
        Tokens::Create {
            name,
            role,
            scope,
            days,
            data,
            config,
        } => {
            let config = settings(config.as_deref(), data)?;
            block_on(create(config, name, role, scope, days))
        }
        Tokens::List { data, config } => {
            let config = settings(config.as_deref(), data)?;
            block_on(list(config))
        }
        Tokens::Revoke {
            number,
            data,
            config,
        } => {
            let config = settings(config.as_deref(), data)?;
            block_on(revoke(config, number))
        }
    }
}

async fn create(
    config: Config,
    name: String,
    role: Role,
    scope: Vec<String>,
    days: Option<i64>,
) -> Result<(), Failure> {
    let scopes = match scope.as_slice() {
        [] => None,
        given => {
            let given = given.iter().map(String::as_str);
            Some(read_scopes(given, role).map_err(|e| (BAD_INPUT, e))?)
        }
    };
    let store = open_store(&config).await?;
    let now_ms = SystemClock.now_ms();
    let wanted = NewToken {
        name: &name,
        role,
        scopes: scopes.as_deref(),
        expires_ms: days.map(|days| now_ms + days * DAY_MS),
        by: None,
    };
    let token = store
        .make_token(&wanted, now_ms)
        .await
        .map_err(|e| (BAD_INPUT, e.to_string()))?;
    let detail = format!("role {}", role.as_str());
    keep(&store, "token.make", Some(&name), detail).await?;
    println!("{token}");
    Ok(())
}

async fn list(config: Config) -> Result<(), Failure> {
    let store = open_store(&config).await?;
    println!("number\tname\trole\tscopes\tlast used\tends\tstate");
    let moment = |at: Option<i64>| at.map_or_else(|| "never".to_owned(), rfc3339);
    for t in store.tokens().await.map_err(database)? {
        let state = if t.revoked_ms.is_some() {
            "revoked"
        } else if t.expires_ms.is_some_and(|end| end <= SystemClock.now_ms()) {
            "run out"
        } else {
            "works"
        };
        println!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{state}",
            t.id,
            t.name,
            t.role,
            t.scopes.as_deref().unwrap_or("all"),
            moment(t.used_ms),
            moment(t.expires_ms)
        );
    }
    Ok(())
}

async fn revoke(config: Config, number: i64) -> Result<(), Failure> {
    let store = open_store(&config).await?;
    let name = store
        .revoke_token(number, SystemClock.now_ms())
        .await
        .map_err(|e| (BAD_INPUT, e.to_string()))?;
    keep(
        &store,
        "token.revoke",
        Some(&name),
        format!("number {number}"),
    )
    .await
}
