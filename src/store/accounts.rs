//! Who may come in: local users, signed-in browsers and bearer tokens.
//!
//! Passwords are kept as Argon2id hashes, everything else that is secret as a SHA-256 digest:
//! a session id and a token are 256 random bits, so a fast digest is enough for them.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, SqlErr,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entity::{api_token, user_account, web_session};
use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// Name of the user made at the first start.
pub const FIRST_USER: &str = "admin";
/// Shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Longest password, in bytes: more is only work for us.
pub const PASSWORD_BYTES_MAX: usize = 512;
/// Longest user or token name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// What every bearer token begins with, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "frt_";
/// A session that is used is written back at most this often.
const SEEN_WRITE_MS: i64 = 60_000;
/// Characters of a generated password: none that are taken for another.
const PASSWORD_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a generated password, in groups of four.
const PASSWORD_CHARS: usize = 16;

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
    /// Passwords have a least and a greatest length.
    #[error(
        "a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
    )]
    BadPassword,
    /// The hash could not be computed.
    #[error("could not hash the password: {0}")]
    Hash(String),
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
    /// Shown once.
    pub password: String,
    /// False where the password was given to us, so that there is no need to print it.
    pub generated: bool,
}

impl std::fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstUser({})", self.name)
    }
}

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
}

/// Who a bearer token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHolder {
    /// Key of the row.
    pub id: i64,
    /// What it was called when it was made.
    pub name: String,
    /// What it may do.
    pub role: Role,
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
        check_name(name)?;
        if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::BadPassword);
        }
        let row = user_account::ActiveModel {
            name: Set(name.to_owned()),
            password_hash: Set(hash_password(password.to_owned()).await?),
            role: Set(role.as_str().to_owned()),
            created_at: Set(now_ms),
            ..Default::default()
        };
        let tx = self.begin().await?;
        let made = row.insert(&tx).await.map_err(|e| match e.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => AccountError::NameTaken(name.to_owned()),
            _ => AccountError::Store(e),
        })?;
        tx.commit().await?;
        Ok(User {
            id: made.id,
            name: made.name,
            role,
        })
    }

    /// Makes the first user when there is none at all, with the wanted password or one of ours.
    ///
    /// # Errors
    /// When the wanted password breaks a rule or the database fails.
    pub async fn ensure_first_user(
        &self,
        wanted_password: Option<String>,
        now_ms: UnixMillis,
    ) -> Result<Option<FirstUser>, AccountError> {
        if user_account::Entity::find().count(self.read()).await? > 0 {
            return Ok(None);
        }
        let generated = wanted_password.is_none();
        let password = match wanted_password {
            Some(password) => password,
            None => generate_password()?,
        };
        let made = self
            .create_user(FIRST_USER, &password, Role::Admin, now_ms)
            .await;
        match made {
            Ok(user) => Ok(Some(FirstUser {
                name: user.name,
                password,
                generated,
            })),
            // another process was faster
            Err(AccountError::NameTaken(_)) => Ok(None),
            Err(e) => Err(e),
        }
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
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        let row = user_account::Entity::find()
            .filter(user_account::Column::Name.eq(name))
            .one(self.read())
            .await?;
        let hash = match &row {
            Some(row) => row.password_hash.clone(),
            None => decoy_hash().await?,
        };
        let fits = verify_password(password.to_owned(), hash).await?;
        Ok(row.filter(|_| fits).and_then(|row| {
            Some(User {
                role: Role::parse(&row.role)?,
                id: row.id,
                name: row.name,
            })
        }))
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
            .order_by_asc(user_account::Column::Name)
            .into_tuple()
            .all(self.read())
            .await
    }

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

    /// Makes a bearer token; the answer is the only time it can be seen.
    ///
    /// # Errors
    /// When the name breaks a rule or the database fails.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        now_ms: UnixMillis,
    ) -> Result<String, AccountError> {
        check_name(name)?;
        let secret = format!("{TOKEN_PREFIX}{}", random_hex()?);
        let row = api_token::ActiveModel {
            name: Set(name.to_owned()),
            digest: Set(digest(&secret)),
            role: Set(role.as_str().to_owned()),
            created_at: Set(now_ms),
            revoked_at: Set(None),
            ..Default::default()
        };
        let tx = self.begin().await?;
        row.insert(&tx).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Who a bearer token stands for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn token_holder(&self, secret: &str) -> Result<Option<TokenHolder>, StoreError> {
        if !secret.starts_with(TOKEN_PREFIX) {
            return Ok(None);
        }
        let row = api_token::Entity::find()
            .filter(api_token::Column::Digest.eq(digest(secret)))
            .filter(api_token::Column::RevokedAt.is_null())
            .one(self.read())
            .await?;
        Ok(row.and_then(|row| {
            Some(TokenHolder {
                role: Role::parse(&row.role)?,
                id: row.id,
                name: row.name,
            })
        }))
    }
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

fn generate_password() -> Result<String, AccountError> {
    let letters: Vec<char> = random_bytes::<PASSWORD_CHARS>()?
        .iter()
        .map(|byte| char::from(PASSWORD_ALPHABET[usize::from(byte % 32)]))
        .collect();
    let groups: Vec<String> = letters.chunks(4).map(|c| c.iter().collect()).collect();
    Ok(groups.join("-"))
}

async fn hash_password(password: String) -> Result<String, AccountError> {
    let hashed = tokio::task::spawn_blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|e| e.to_string())
    });
    hashed
        .await
        .map_err(|e| AccountError::Hash(e.to_string()))?
        .map_err(AccountError::Hash)
}

async fn verify_password(password: String, hash: String) -> Result<bool, AccountError> {
    let verified = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|parsed| {
            Argon2::default()
                .verify_password(password.as_bytes(), &parsed)
                .is_ok()
        })
    });
    verified
        .await
        .map_err(|e| AccountError::Hash(e.to_string()))
}

/// A hash of nothing anyone knows, so that an unknown name costs as much as a known one.
async fn decoy_hash() -> Result<String, AccountError> {
    static DECOY: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    DECOY
        .get_or_try_init(|| async { hash_password(random_hex()?).await })
        .await
        .cloned()
}
