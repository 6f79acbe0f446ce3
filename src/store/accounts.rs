//! Who may come in: local users, signed-in browsers and bearer tokens.
//!
//! `sessions`, `tokens` and `manage` do what their names say; `passwords` has the rules and the hash.
//! Passwords are kept as Argon2id hashes, everything else that is secret as a SHA-256 digest:
//! a session id and a token are 256 random bits, so a fast digest is enough for them.

mod manage;
mod passwords;
mod sessions;
mod tokens;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, SqlErr,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entity::user_account;
use super::{Store, StoreError};
use crate::clock::UnixMillis;
pub use manage::{Account, Changed, LockLimits, Origin};
use passwords::{decoy_hash, generate_password, hash_password, verify_password};
pub use sessions::{NewSession, Session, SessionLimits};
pub(super) use tokens::still_works;
pub use tokens::{NewToken, TokenEntry, TokenHolder};

/// Name of the user made at the first start.
pub const FIRST_USER: &str = "admin";
/// Shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password, in bytes: more is only work for us.
pub const PASSWORD_BYTES_MAX: usize = 512;
/// Longest user or token name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// What every bearer token begins with, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "frt_";
/// A session or token that is used is written back at most this often.
const SEEN_WRITE_MS: i64 = 60_000;

/// What someone may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads studies.
    Reader,
    /// Sends studies and wants to know whether they arrived.
    Technologist,
    /// Runs the server.
    Admin,
    /// Looks at what was done, changes nothing.
    Auditor,
    /// Another system: RIS, PACS, scripts.
    Integration,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Reader,
        Self::Technologist,
        Self::Admin,
        Self::Auditor,
        Self::Integration,
    ];

    /// Those who work through the list.
    pub const READERS: [Self; 2] = [Self::Reader, Self::Admin];

    /// As the database and the command line write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Technologist => "technologist",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Integration => "integration",
        }
    }

    /// Reads what [`Role::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// Why an account could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The database failed.
    #[error("could not reach the accounts")]
    Store(#[from] StoreError),
    /// Two users may not share a name.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// Names are shown and logged.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    BadName,
    /// It breaks a rule for passwords.
    #[error("this password {0}")]
    BadPassword(&'static str),
    /// There is no such account or token, or not any more.
    #[error("there is no such account or token")]
    Unknown,
    /// Who wants it lost the right to it meanwhile.
    #[error("you are no administrator any more")]
    NoMore,
    /// Nobody could make accounts any more.
    #[error("this is the last administrator who can sign in")]
    LastAdmin,
    /// Scopes that the role does not have, or none at all.
    #[error("a token of this role can have these scopes: {0}")]
    BadScopes(String),
    /// The hash could not be computed.
    #[error("could not hash the password: {0}")]
    Hash(String),
    /// Nobody would know the password.
    #[error("could not hand over the first password: {0}")]
    NotHandedOver(String),
}

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Key of the row.
    pub id: i64,
    /// What the user types.
    pub name: String,
    /// What the user may do.
    pub role: Role,
}

/// The user made at the first start.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstUser {
    /// What to type.
    pub name: String,
    /// Handed over once.
    pub password: String,
    /// Whether the password is ours, so that it is handed over and must be changed at the first sign-in.
    pub generated: bool,
}

impl std::fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstUser({})", self.name)
    }
}

impl Store {
    /// Makes a user.
    ///
    /// # Errors
    /// When the name is taken, name or password break a rule, or the database fails.
    pub async fn create_user(
        &self,
        name: &str,
        password: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<User, AccountError> {
        let row = local_user(name, password, role, now_ms).await?;
        let tx = self.begin().await?;
        let made = insert(&tx, name, row).await?;
        tx.commit().await?;
        Ok(User {
            id: made.id,
            name: made.name,
            role,
        })
    }

    /// Makes the first user when there is none at all, with the wanted password or one of ours, which must be changed.
    /// There is none where it could not be handed over: a password that nobody knows would lock everybody out.
    ///
    /// # Errors
    /// When the wanted password breaks a rule, it could not be handed over, or the database fails.
    pub async fn ensure_first_user(
        &self,
        wanted_password: Option<String>,
        now_ms: UnixMillis,
        hand_over: impl FnOnce(&FirstUser) -> Result<(), String>,
    ) -> Result<Option<FirstUser>, AccountError> {
        if user_account::Entity::find().count(self.read()).await? > 0 {
            return Ok(None);
        }
        let generated = wanted_password.is_none();
        let password = match wanted_password {
            Some(password) => password,
            None => generate_password()?,
        };
        let mut row = local_user(FIRST_USER, &password, Role::Admin, now_ms).await?;
        row.must_change = Set(generated);
        let tx = self.begin().await?;
        match insert(&tx, FIRST_USER, row).await {
            Ok(_) => {}
            // another process was faster
            Err(AccountError::NameTaken(_)) => return Ok(None),
            Err(e) => return Err(e),
        }
        let user = FirstUser {
            name: FIRST_USER.to_owned(),
            password,
            generated,
        };
        hand_over(&user).map_err(AccountError::NotHandedOver)?;
        tx.commit().await?;
        Ok(Some(user))
    }

    /// The user, when name and password fit. Takes equally long when there is no such user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check_password(
        &self,
        name: &str,
        password: &str,
    ) -> Result<Option<User>, AccountError> {
        let row = self.fitting(name, password).await?;
        Ok(row.and_then(|row| {
            Some(User {
                role: Role::parse(&row.role)?,
                id: row.id,
                name: row.name,
            })
        }))
    }

    /// The account that name and password fit, as it was when they were compared.
    async fn fitting(
        &self,
        name: &str,
        password: &str,
    ) -> Result<Option<user_account::Model>, AccountError> {
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        let row = user_account::Entity::find()
            .filter(user_account::Column::Name.eq(name))
            .filter(user_account::Column::Origin.eq(Origin::Local.as_str()))
            .filter(user_account::Column::DisabledAt.is_null())
            .one(self.read())
            .await?;
        let hash = match &row {
            Some(row) => row.password_hash.clone(),
            None => decoy_hash().await?,
        };
        let fits = verify_password(password.to_owned(), hash).await?;
        Ok(row.filter(|_| fits))
    }

    /// Names of the accounts that read studies, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn readers(&self) -> Result<Vec<String>, StoreError> {
        user_account::Entity::find()
            .select_only()
            .column(user_account::Column::Name)
            .filter(user_account::Column::Role.is_in(Role::READERS.map(Role::as_str)))
            .filter(user_account::Column::DisabledAt.is_null())
            .order_by_asc(user_account::Column::Name)
            .into_tuple()
            .all(self.read())
            .await
    }
}

/// A local account that may keep its password.
async fn local_user(
    name: &str,
    password: &str,
    role: Role,
    now_ms: UnixMillis,
) -> Result<user_account::ActiveModel, AccountError> {
    check_name(name)?;
    passwords::check(name, password)?;
    Ok(user_account::ActiveModel {
        name: Set(name.to_owned()),
        password_hash: Set(hash_password(password.to_owned()).await?),
        role: Set(role.as_str().to_owned()),
        created_at: Set(now_ms),
        origin: Set(Origin::Local.as_str().to_owned()),
        must_change: Set(false),
        ..Default::default()
    })
}

async fn insert(
    tx: &DatabaseTransaction,
    name: &str,
    row: user_account::ActiveModel,
) -> Result<user_account::Model, AccountError> {
    row.insert(tx).await.map_err(|e| match e.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => AccountError::NameTaken(name.to_owned()),
        _ => AccountError::Store(e),
    })
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let fine = !name.trim().is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.chars().any(char::is_control);
    if fine {
        Ok(())
    } else {
        Err(AccountError::BadName)
    }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// 256 random bits in hexadecimal.
///
/// # Errors
/// When the machine's source of randomness fails.
pub fn random_hex() -> Result<String, AccountError> {
    Ok(hex(&random_bytes::<32>()?))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], AccountError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| AccountError::Hash(e.to_string()))?;
    Ok(bytes)
}
