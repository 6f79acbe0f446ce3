//! What administrators do with accounts, what everyone does with the own one, and who is locked out.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, SqlErr,
};

use super::passwords::{self, generate_password, hash_password};
use super::tokens::revoke_with;
use super::{
    AccountError, NewSession, Role, SessionLimits, User, check_name, digest, insert, local_user,
    random_hex,
};
use crate::clock::UnixMillis;
use crate::store::entity::{login_failure, user_account, web_session};
use crate::store::turns::{self, Duty};
use crate::store::{Store, StoreError};

/// Accounts that are listed.
const LISTED_MAX: u64 = 1000;
/// Names that are remembered for failed sign-ins; beyond it the oldest are forgotten.
const FAILURES_KEPT_MAX: u64 = 10_000;

/// Who says that it is this person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// We do, by a password.
    Local,
    /// The site's single sign-on.
    Oidc,
}

impl Origin {
    /// As the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Oidc => "oidc",
        }
    }
}

/// When a name is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLimits {
    /// Failures in a row, from wherever.
    pub failures: u32,
    /// For so long; a failure that is older than this begins a new row.
    pub lock_ms: i64,
}

/// An account whose rights changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Names of the tokens that were revoked with its rights.
    pub revoked: Vec<String>,
}

/// An account as the page lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Key of the row.
    pub id: i64,
    /// What its person types.
    pub name: String,
    /// Its role.
    pub role: String,
    /// local or oidc.
    pub origin: String,
    /// When it was made.
    pub created_ms: UnixMillis,
    /// When it was signed in last.
    pub signed_in_ms: Option<UnixMillis>,
    /// Since when nobody can sign in with it.
    pub disabled_ms: Option<UnixMillis>,
    /// Its password was set by somebody else.
    pub must_change: bool,
    /// Until when it is locked for failed sign-ins.
    pub locked_until_ms: Option<UnixMillis>,
    /// Browsers in which it is signed in, as far as they were not idle for too long.
    pub sessions: u64,
}

impl Store {
    /// All accounts, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accounts(
        &self,
        limits: SessionLimits,
        now_ms: UnixMillis,
    ) -> Result<Vec<Account>, StoreError> {
        let rows = user_account::Entity::find()
            .order_by_asc(user_account::Column::Name)
            .limit(LISTED_MAX)
            .all(self.read())
            .await?;
        let locked: Vec<(String, i64)> = login_failure::Entity::find()
            .select_only()
            .columns([
                login_failure::Column::NameDigest,
                login_failure::Column::LockedUntil,
            ])
            .filter(login_failure::Column::LockedUntil.gt(now_ms))
            .into_tuple()
            .all(self.read())
            .await?;
        let signed_in: Vec<(i64, i64)> = web_session::Entity::find()
            .select_only()
            .column(web_session::Column::UserId)
            .column_as(web_session::Column::Id.count(), "n")
            .filter(web_session::Column::SeenAt.gte(now_ms - limits.idle_ms))
            .filter(web_session::Column::CreatedAt.gte(now_ms - limits.absolute_ms))
            .group_by(web_session::Column::UserId)
            .into_tuple()
            .all(self.read())
            .await?;
        let account = |row: user_account::Model| {
            let of_name = digest(&row.name);
            let locked = locked.iter().find(|(name, _)| *name == of_name);
            let sessions = signed_in.iter().find(|(id, _)| *id == row.id);
            Account {
                id: row.id,
                name: row.name,
                role: row.role,
                origin: row.origin,
                created_ms: row.created_at,
                signed_in_ms: row.signed_in_at,
                disabled_ms: row.disabled_at,
                must_change: row.must_change,
                locked_until_ms: locked.map(|(_, until)| *until),
                sessions: sessions.map_or(0, |(_, n)| u64::try_from(*n).unwrap_or(0)),
            }
        };
        Ok(rows.into_iter().map(account).collect())
    }

    /// A transaction in which rights are given or taken, in its turn. `by`: the account that does so, which may have
    /// lost the right to since it asked; `None` where no account does.
    pub(super) async fn begin_rights(
        &self,
        by: Option<&str>,
    ) -> Result<DatabaseTransaction, AccountError> {
        let tx = self.begin().await?;
        turns::within(&tx, Duty::Rights).await?;
        if let Some(by) = by {
            let still = user_account::Entity::find()
                .filter(user_account::Column::Name.eq(by))
                .filter(user_account::Column::Role.eq(Role::Admin.as_str()))
                .filter(user_account::Column::DisabledAt.is_null())
                .one(&tx)
                .await?;
            still.ok_or(AccountError::NoMore)?;
        }
        Ok(tx)
    }

    /// Makes an account with a password of ours, which its person must change; gives the password.
    ///
    /// # Errors
    /// When the name is taken or breaks a rule, `by` is no administrator any more, or the database fails.
    pub async fn invite(
        &self,
        by: &str,
        name: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<String, AccountError> {
        let password = generate_password()?;
        let mut row = local_user(name, &password, role, now_ms).await?;
        row.must_change = Set(true);
        let tx = self.begin_rights(Some(by)).await?;
        insert(&tx, name, row).await?;
        tx.commit().await?;
        Ok(password)
    }

    /// Gives an account another role and ends its sessions: rights change with a new sign-in. Unless it becomes an
    /// administrator, all tokens that it made are revoked, and those under its name that have more than the new role.
    ///
    /// # Errors
    /// When there is none, it is the last administrator, `by` is none any more, or the database fails.
    pub async fn change_role(
        &self,
        by: Option<&str>,
        id: i64,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<Changed, AccountError> {
        let tx = self.begin_rights(by).await?;
        let row = found(&tx, id).await?;
        if role != Role::Admin {
            keep_an_admin(&tx, &row).await?;
        }
        let revoked = give_role(&tx, &row, role, now_ms).await?;
        tx.commit().await?;
        Ok(Changed {
            name: row.name,
            revoked,
        })
    }

    /// Lets nobody sign in with an account any more, ends its sessions and revokes its tokens; or lets them sign in
    /// again, without those.
    ///
    /// # Errors
    /// When there is none, it is the last administrator, `by` is none any more, or the database fails.
    pub async fn disable(
        &self,
        by: Option<&str>,
        id: i64,
        since_ms: Option<UnixMillis>,
    ) -> Result<Changed, AccountError> {
        let tx = self.begin_rights(by).await?;
        let row = found(&tx, id).await?;
        let mut revoked = Vec::new();
        if let Some(now_ms) = since_ms {
            keep_an_admin(&tx, &row).await?;
            end_sessions(&tx, id).await?;
            revoked = revoke_with(&tx, &row.name, None, now_ms).await?;
        }
        user_account::Entity::update_many()
            .col_expr(user_account::Column::DisabledAt, Expr::value(since_ms))
            .filter(user_account::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(Changed {
            name: row.name,
            revoked,
        })
    }

    /// Gives a local account a password of ours, which its person must change, and ends its sessions. Gives its name
    /// and the password.
    ///
    /// # Errors
    /// When there is no such local account, `by` is no administrator any more, or the database fails.
    pub async fn reset_password(
        &self,
        by: &str,
        id: i64,
    ) -> Result<(String, String), AccountError> {
        let password = generate_password()?;
        let hash = hash_password(password.clone()).await?;
        let tx = self.begin_rights(Some(by)).await?;
        let row = found(&tx, id).await?;
        if row.origin != Origin::Local.as_str() {
            return Err(AccountError::Unknown);
        }
        set_password(&tx, id, hash).await?;
        must_change(&tx, id, true).await?;
        end_sessions(&tx, id).await?;
        forget_failures(&tx, &row.name).await?;
        tx.commit().await?;
        Ok((row.name, password))
    }

    /// Changes the own password: all sessions end, and a new one begins.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] where the old password does not fit; when the new one breaks a rule, or the database
    /// fails.
    pub async fn change_password(
        &self,
        user: &User,
        old: &str,
        new: &str,
        limits: SessionLimits,
        now_ms: UnixMillis,
    ) -> Result<NewSession, AccountError> {
        let fits = self.fitting(&user.name, old).await?;
        let fits = fits.filter(|row| row.id == user.id);
        let compared = fits.ok_or(AccountError::Unknown)?.password_hash;
        passwords::check(&user.name, new)?;
        if old == new {
            return Err(AccountError::BadPassword("is the one you had"));
        }
        let hash = hash_password(new.to_owned()).await?;
        let tx = self.begin().await?;
        // an administrator may have set another since, or disabled the account: that counts
        let row = found(&tx, user.id).await?;
        if row.password_hash != compared || row.disabled_at.is_some() {
            return Err(AccountError::Unknown);
        }
        set_password(&tx, user.id, hash).await?;
        must_change(&tx, user.id, false).await?;
        end_sessions(&tx, user.id).await?;
        tx.commit().await?;
        self.start_session(user, limits, now_ms).await
    }

    /// Until when this name is locked, whether there is such an account or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn locked_until(
        &self,
        name: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<UnixMillis>, StoreError> {
        let row = login_failure::Entity::find()
            .filter(login_failure::Column::NameDigest.eq(digest(name)))
            .one(self.read())
            .await?;
        Ok(row.map(|r| r.locked_until).filter(|until| *until > now_ms))
    }

    /// Notes a failed sign-in; gives until when the name is locked, by it or already. What fails while a lock runs was
    /// on its way before it, and changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn login_failed(
        &self,
        name: &str,
        limits: LockLimits,
        now_ms: UnixMillis,
    ) -> Result<Option<UnixMillis>, StoreError> {
        let key = digest(name);
        let tx = self.begin().await?;
        let row = held_failures(&tx, &key, now_ms).await?;
        if row.locked_until > now_ms {
            tx.commit().await?;
            return Ok(Some(row.locked_until));
        }
        let in_a_row = now_ms - row.last_at <= limits.lock_ms;
        let failures = if in_a_row { row.failures + 1 } else { 1 };
        let locked = failures >= i64::from(limits.failures);
        let until = if locked { now_ms + limits.lock_ms } else { 0 };
        // the next row begins after the lock
        let kept = if locked { 0 } else { failures };
        login_failure::Entity::update_many()
            .col_expr(login_failure::Column::Failures, Expr::value(kept))
            .col_expr(login_failure::Column::LastAt, Expr::value(now_ms))
            .col_expr(login_failure::Column::LockedUntil, Expr::value(until))
            .filter(login_failure::Column::NameDigest.eq(&key))
            .exec(&tx)
            .await?;
        if login_failure::Entity::find().count(&tx).await? > FAILURES_KEPT_MAX {
            login_failure::Entity::delete_many()
                .filter(login_failure::Column::LastAt.lt(now_ms - limits.lock_ms))
                .filter(login_failure::Column::LockedUntil.lte(now_ms))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(locked.then_some(until))
    }

    /// Forgets the failed sign-ins of a name whose right password was given; gives until when the name is locked, where
    /// it was locked meanwhile: then nobody is let in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn login_fits(
        &self,
        name: &str,
        now_ms: UnixMillis,
    ) -> Result<Option<UnixMillis>, StoreError> {
        let key = digest(name);
        let tx = self.begin().await?;
        login_failure::Entity::delete_many()
            .filter(login_failure::Column::NameDigest.eq(&key))
            .filter(login_failure::Column::LockedUntil.lte(now_ms))
            .exec(&tx)
            .await?;
        // What is left is locked; the delete waited for whoever was about to lock it.
        let left = login_failure::Entity::find()
            .filter(login_failure::Column::NameDigest.eq(&key))
            .filter(login_failure::Column::LockedUntil.gt(now_ms))
            .one(&tx)
            .await?;
        tx.commit().await?;
        Ok(left.map(|row| row.locked_until))
    }

    /// Unlocks an account; gives its name.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub async fn unlock(&self, id: i64) -> Result<String, AccountError> {
        let tx = self.begin().await?;
        let row = found(&tx, id).await?;
        forget_failures(&tx, &row.name).await?;
        tx.commit().await?;
        Ok(row.name)
    }

    /// The account of somebody whom single sign-on vouches for, made at the first time; its role is what the groups
    /// say now, and where that changed, earlier sessions end and tokens that it could not have any more are revoked,
    /// whose names are given. `None` where it is disabled.
    ///
    /// # Errors
    /// When the name breaks a rule or another account has it, or the database fails.
    pub async fn vouched_for(
        &self,
        subject: &str,
        name: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<Option<(User, Vec<String>)>, AccountError> {
        check_name(name)?;
        // The second look finds what another browser of this person made at the moment of the first. Who is still not
        // found then is another of that name.
        for _ in 0..2 {
            match self.vouched_once(subject, name, role, now_ms).await {
                Err(AccountError::Store(e))
                    if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {}
                said => return said,
            }
        }
        Err(AccountError::NameTaken(name.to_owned()))
    }

    async fn vouched_once(
        &self,
        subject: &str,
        name: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<Option<(User, Vec<String>)>, AccountError> {
        let tx = self.begin().await?;
        let mut revoked = Vec::new();
        let known = user_account::Entity::find()
            .filter(user_account::Column::Subject.eq(subject))
            .one(&tx)
            .await?;
        let row = match known {
            Some(row) if row.disabled_at.is_some() => return Ok(None),
            Some(row) => {
                if row.role != role.as_str() {
                    turns::within(&tx, Duty::Rights).await?;
                    revoked = give_role(&tx, &row, role, now_ms).await?;
                }
                row
            }
            None => {
                let fresh = user_account::ActiveModel {
                    name: Set(name.to_owned()),
                    // no password fits it
                    password_hash: Set(format!("none {}", random_hex()?)),
                    role: Set(role.as_str().to_owned()),
                    created_at: Set(now_ms),
                    origin: Set(Origin::Oidc.as_str().to_owned()),
                    subject: Set(Some(subject.to_owned())),
                    must_change: Set(false),
                    ..Default::default()
                };
                fresh.insert(&tx).await?
            }
        };
        tx.commit().await?;
        let user = User {
            id: row.id,
            name: row.name,
            role,
        };
        Ok(Some((user, revoked)))
    }
}

async fn found(tx: &DatabaseTransaction, id: i64) -> Result<user_account::Model, AccountError> {
    let row = user_account::Entity::find_by_id(id)
        .lock_exclusive()
        .one(tx)
        .await?;
    row.ok_or(AccountError::Unknown)
}

/// The counter of a name, made where there is none; nobody else changes it before this transaction ends.
async fn held_failures(
    tx: &DatabaseTransaction,
    key: &str,
    now_ms: UnixMillis,
) -> Result<login_failure::Model, StoreError> {
    let fresh = login_failure::ActiveModel {
        name_digest: Set(key.to_owned()),
        failures: Set(0),
        last_at: Set(now_ms),
        locked_until: Set(0),
        ..Default::default()
    };
    // An update that changes nothing holds a row that is there; one that is only looked for may be gone by then.
    let conflict = OnConflict::column(login_failure::Column::NameDigest)
        .update_column(login_failure::Column::NameDigest)
        .to_owned();
    login_failure::Entity::insert(fresh)
        .on_conflict(conflict)
        .exec_without_returning(tx)
        .await?;
    let row = login_failure::Entity::find()
        .filter(login_failure::Column::NameDigest.eq(key))
        .one(tx)
        .await?;
    row.ok_or_else(|| StoreError::RecordNotFound("the counter of failed sign-ins".to_owned()))
}

/// Another role: sessions of before end, and so do tokens that go with lost rights, whose names are given.
async fn give_role(
    tx: &DatabaseTransaction,
    row: &user_account::Model,
    role: Role,
    now_ms: UnixMillis,
) -> Result<Vec<String>, StoreError> {
    user_account::Entity::update_many()
        .col_expr(user_account::Column::Role, Expr::value(role.as_str()))
        .filter(user_account::Column::Id.eq(row.id))
        .exec(tx)
        .await?;
    end_sessions(tx, row.id).await?;
    revoke_with(tx, &row.name, Some(role), now_ms).await
}

/// Somebody else must be left who can make accounts. Whoever asks has [`Duty::Rights`]: a lock on this row alone would
/// let two administrators take the role from each other at once.
async fn keep_an_admin(
    tx: &DatabaseTransaction,
    row: &user_account::Model,
) -> Result<(), AccountError> {
    let others = user_account::Entity::find()
        .filter(user_account::Column::Role.eq(Role::Admin.as_str()))
        .filter(user_account::Column::Origin.eq(Origin::Local.as_str()))
        .filter(user_account::Column::DisabledAt.is_null())
        .filter(user_account::Column::Id.ne(row.id))
        .count(tx)
        .await?;
    let matters = row.role == Role::Admin.as_str() && row.disabled_at.is_none();
    if matters && others == 0 {
        return Err(AccountError::LastAdmin);
    }
    Ok(())
}

async fn end_sessions(tx: &DatabaseTransaction, id: i64) -> Result<(), StoreError> {
    web_session::Entity::delete_many()
        .filter(web_session::Column::UserId.eq(id))
        .exec(tx)
        .await
        .map(|_| ())
}

async fn set_password(tx: &DatabaseTransaction, id: i64, hash: String) -> Result<(), StoreError> {
    user_account::Entity::update_many()
        .col_expr(user_account::Column::PasswordHash, Expr::value(hash))
        .filter(user_account::Column::Id.eq(id))
        .exec(tx)
        .await
        .map(|_| ())
}

async fn must_change(tx: &DatabaseTransaction, id: i64, it: bool) -> Result<(), StoreError> {
    user_account::Entity::update_many()
        .col_expr(user_account::Column::MustChange, Expr::value(it))
        .filter(user_account::Column::Id.eq(id))
        .exec(tx)
        .await
        .map(|_| ())
}

async fn forget_failures(tx: &DatabaseTransaction, name: &str) -> Result<(), StoreError> {
    login_failure::Entity::delete_many()
        .filter(login_failure::Column::NameDigest.eq(digest(name)))
        .exec(tx)
        .await
        .map(|_| ())
}
