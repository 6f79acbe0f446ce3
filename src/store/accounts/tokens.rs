//! Bearer tokens of programs.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::{AccountError, Role, SEEN_WRITE_MS, TOKEN_PREFIX, check_name, digest, random_hex};
use crate::clock::UnixMillis;
use crate::store::entity::api_token;
use crate::store::{Store, StoreError};

/// Tokens that are listed.
const LISTED_MAX: u64 = 500;

/// Who a bearer token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHolder {
    /// Key of the row.
    pub id: i64,
    /// What it was called when it was made.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What of that; `None` for all.
    pub scopes: Option<Vec<String>>,
}

impl TokenHolder {
    /// Whether it was given this scope.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        let scopes = self.scopes.as_ref();
        scopes.is_none_or(|all| all.iter().any(|s| s == scope))
    }
}

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// What it may do at most.
    pub role: Role,
    /// What of that; `None` for all.
    pub scopes: Option<&'a [&'a str]>,
    /// When it ends; `None` for never.
    pub expires_ms: Option<UnixMillis>,
    /// Name of the account that made it.
    pub by: Option<&'a str>,
}

/// A token as the page lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// Key of the row.
    pub id: i64,
    /// Whose it is.
    pub name: String,
    /// Its role.
    pub role: String,
    /// What of that; `None` for all.
    pub scopes: Option<String>,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// By which account; `None` from the command line.
    pub by: Option<String>,
    /// When it ends.
    pub expires_ms: Option<UnixMillis>,
    /// When it was used last, to the minute.
    pub used_ms: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_ms: Option<UnixMillis>,
}

impl Store {
    /// Makes a bearer token for all that its role may, without an end.
    ///
    /// # Errors
    /// When the name breaks a rule or the database fails.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<String, AccountError> {
        let wanted = NewToken {
            name,
            role,
            scopes: None,
            expires_ms: None,
            by: None,
        };
        self.make_token(&wanted, now_ms).await
    }

    /// Makes a bearer token; the answer is the only time it can be seen.
    ///
    /// # Errors
    /// When the name breaks a rule, the account that wants it is no administrator any more, or the database fails.
    pub async fn make_token(
        &self,
        wanted: &NewToken<'_>,
        now_ms: UnixMillis,
    ) -> Result<String, AccountError> {
        check_name(wanted.name)?;
        let secret = format!("{TOKEN_PREFIX}{}", random_hex()?);
        let row = api_token::ActiveModel {
            name: Set(wanted.name.to_owned()),
            digest: Set(digest(&secret)),
            role: Set(wanted.role.as_str().to_owned()),
            created_at: Set(now_ms),
            revoked_at: Set(None),
            scopes: Set(wanted.scopes.map(|s| s.join(" "))),
            expires_at: Set(wanted.expires_ms),
            created_by: Set(wanted.by.map(str::to_owned)),
            ..Default::default()
        };
        let tx = self.begin_rights(wanted.by).await?;
        row.insert(&tx).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Who a bearer token stands for; `None` also where it was revoked or has run out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn token_holder(
        &self,
        secret: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<TokenHolder>, StoreError> {
        if !secret.starts_with(TOKEN_PREFIX) {
            return Ok(None);
        }
        let row = api_token::Entity::find()
            .filter(api_token::Column::Digest.eq(digest(secret)))
            .filter(api_token::Column::RevokedAt.is_null())
            .one(self.read())
            .await?;
        let Some(row) = row.filter(|r| r.expires_at.is_none_or(|end| now_ms < end)) else {
            return Ok(None);
        };
        if row.used_at.is_none_or(|at| now_ms - at > SEEN_WRITE_MS) {
            let tx = self.begin().await?;
            api_token::Entity::update_many()
                .col_expr(api_token::Column::UsedAt, Expr::value(now_ms))
                .filter(api_token::Column::Id.eq(row.id))
                .exec(&tx)
                .await?;
            tx.commit().await?;
        }
        let scopes = row.scopes.as_deref();
        let scopes = scopes.map(|s| s.split(' ').map(str::to_owned).collect());
        Ok(Role::parse(&row.role).map(|role| TokenHolder {
            role,
            id: row.id,
            name: row.name,
            scopes,
        }))
    }

    /// Tokens, those that still work first, then the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(&self) -> Result<Vec<TokenEntry>, StoreError> {
        let rows = api_token::Entity::find()
            .order_by_desc(api_token::Column::RevokedAt.is_null())
            .order_by_desc(api_token::Column::Id)
            .limit(LISTED_MAX)
            .all(self.read())
            .await?;
        let entries = rows.into_iter().map(|r| TokenEntry {
            id: r.id,
            name: r.name,
            role: r.role,
            scopes: r.scopes,
            created_ms: r.created_at,
            by: r.created_by,
            expires_ms: r.expires_at,
            used_ms: r.used_at,
            revoked_ms: r.revoked_at,
        });
        Ok(entries.collect())
    }

    /// Ends a token at once; gives its name.
    ///
    /// # Errors
    /// When there is none that still works, or the database fails.
    pub async fn revoke_token(&self, id: i64, now_ms: UnixMillis) -> Result<String, AccountError> {
        let tx = self.begin().await?;
        let row = api_token::Entity::find_by_id(id)
            .filter(api_token::Column::RevokedAt.is_null())
            .one(&tx)
            .await?;
        let row = row.ok_or(AccountError::Unknown)?;
        api_token::Entity::update_many()
            .col_expr(api_token::Column::RevokedAt, Expr::value(now_ms))
            .filter(api_token::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(row.name)
    }
}

/// Revokes the tokens that go with rights which an account loses; gives their names.
///
/// Those that it made, unless it stays one who may make tokens: whoever made a token knows it. And those that act under
/// its name, unless their role is the account's own (`role`; `None` where the account is disabled).
pub(super) async fn revoke_with(
    tx: &DatabaseTransaction,
    account: &str,
    role: Option<Role>,
    now_ms: UnixMillis,
) -> Result<Vec<String>, StoreError> {
    if role == Some(Role::Admin) {
        return Ok(Vec::new());
    }
    let mut under_its_name = Condition::all().add(api_token::Column::Name.eq(account));
    if let Some(role) = role {
        under_its_name = under_its_name.add(api_token::Column::Role.ne(role.as_str()));
    }
    let lost = Condition::any()
        .add(api_token::Column::CreatedBy.eq(account))
        .add(under_its_name);
    let names: Vec<String> = api_token::Entity::find()
        .select_only()
        .column(api_token::Column::Name)
        .filter(lost.clone())
        .filter(still_works(now_ms))
        .order_by_asc(api_token::Column::Id)
        .limit(LISTED_MAX)
        .into_tuple()
        .all(tx)
        .await?;
    api_token::Entity::update_many()
        .col_expr(api_token::Column::RevokedAt, Expr::value(now_ms))
        .filter(lost)
        .filter(still_works(now_ms))
        .exec(tx)
        .await?;
    Ok(names)
}

/// Neither revoked nor run out.
pub(in crate::store) fn still_works(now_ms: UnixMillis) -> Condition {
    let ends_later = Condition::any()
        .add(api_token::Column::ExpiresAt.is_null())
        .add(api_token::Column::ExpiresAt.gt(now_ms));
    Condition::all()
        .add(api_token::Column::RevokedAt.is_null())
        .add(ends_later)
}
