//! Signed-in browsers.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{AccountError, Role, SEEN_WRITE_MS, User, digest, random_hex};
use crate::clock::UnixMillis;
use crate::store::entity::{user_account, web_session};
use crate::store::{Store, StoreError};

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request.
    pub idle_ms: i64,
    /// In all.
    pub absolute_ms: i64,
}

/// What a new session hands to the browser.
#[derive(Clone)]
pub struct NewSession {
    /// For the cookie; never kept by us.
    pub secret: String,
    /// For hidden form fields.
    pub csrf: String,
}

/// A signed-in browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who it is.
    pub user: User,
    /// What its forms must carry.
    pub csrf: String,
    /// The password was set by somebody else: nothing else is to be done before it is changed.
    pub must_change: bool,
}

impl Store {
    /// Signs a user in, and forgets sessions that have run out.
    ///
    /// # Errors
    /// When the database or the source of randomness fails.
    pub async fn start_session(
        &self,
        user: &User,
        limits: SessionLimits,
        now_ms: UnixMillis,
    ) -> Result<NewSession, AccountError> {
        let fresh = NewSession {
            secret: random_hex()?,
            csrf: random_hex()?,
        };
        let row = web_session::ActiveModel {
            digest: Set(digest(&fresh.secret)),
            user_id: Set(user.id),
            csrf: Set(fresh.csrf.clone()),
            created_at: Set(now_ms),
            seen_at: Set(now_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        web_session::Entity::delete_many()
            .filter(
                web_session::Column::SeenAt
                    .lt(now_ms - limits.idle_ms)
                    .or(web_session::Column::CreatedAt.lt(now_ms - limits.absolute_ms)),
            )
            .exec(&tx)
            .await?;
        row.insert(&tx).await?;
        user_account::Entity::update_many()
            .col_expr(user_account::Column::SignedInAt, Expr::value(now_ms))
            .filter(user_account::Column::Id.eq(user.id))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(fresh)
    }

    /// Who a session cookie stands for. `active` is a request the user made,
    /// as against one the page makes by itself, and keeps the session from idling out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session(
        &self,
        secret: &str,
        limits: SessionLimits,
        active: bool,
        now_ms: UnixMillis,
    ) -> Result<Option<Session>, StoreError> {
        let found = web_session::Entity::find()
            .filter(web_session::Column::Digest.eq(digest(secret)))
            .one(self.read())
            .await?;
        let Some(row) = found else { return Ok(None) };
        if now_ms - row.seen_at > limits.idle_ms || now_ms - row.created_at > limits.absolute_ms {
            return Ok(None);
        }
        let Some(user) = user_account::Entity::find_by_id(row.user_id)
            .filter(user_account::Column::DisabledAt.is_null())
            .one(self.read())
            .await?
        else {
            return Ok(None);
        };
        if active && now_ms - row.seen_at > SEEN_WRITE_MS {
            let tx = self.begin().await?;
            let mut seen: web_session::ActiveModel = row.clone().into();
            seen.seen_at = Set(now_ms);
            web_session::Entity::update_many()
                .set(seen)
                .filter(web_session::Column::Id.eq(row.id))
                .exec(&tx)
                .await?;
            tx.commit().await?;
        }
        Ok(Role::parse(&user.role).map(|role| Session {
            user: User {
                id: user.id,
                name: user.name,
                role,
            },
            csrf: row.csrf,
            must_change: user.must_change,
        }))
    }

    /// Signs a browser out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_session(&self, secret: &str) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        web_session::Entity::delete_many()
            .filter(web_session::Column::Digest.eq(digest(secret)))
            .exec(&tx)
            .await?;
        tx.commit().await
    }

    /// Signs a user out everywhere.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_sessions_of(&self, user_id: i64) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        let ended = web_session::Entity::delete_many()
            .filter(web_session::Column::UserId.eq(user_id))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(ended.rows_affected)
    }
}
