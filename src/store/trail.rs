//! The audit trail: who saw, did and changed what. Entries are only ever added, each with the digest of the one before
//! it, so that a changed, missing or inserted entry shows. The database itself refuses to change or delete one.
//!
//! The chain stays one line with several writers: whoever adds holds the one row of `audit_head` until its
//! transaction ends. SQLite has one writer at a time anyway.
//!
//! What the chain cannot show by itself is that its end was cut off, or that all of it was written anew by somebody
//! who owns the database: note the head elsewhere (the page and every export show it), or send entries on as they come.

use std::fmt::Write as _;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, sea_query::Expr,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::entity::{audit_head, audit_trail, study};
use super::{Store, StoreError};
use crate::clock::{UnixMillis, rfc3339};

/// The one row of `audit_head`.
const THE_ROW: i64 = 1;
/// Longest text of an entry, in bytes; the detail may be as long as `DETAIL_BYTES_MAX`.
const TEXT_BYTES_MAX: usize = 256;
const DETAIL_BYTES_MAX: usize = 2048;
/// Entries that are read at one time.
pub const PAGE_ENTRIES: u64 = 500;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActorKind {
    /// A person at a browser.
    #[default]
    User,
    /// A program with a bearer token.
    Token,
    /// The server itself, or its command line.
    System,
}

impl ActorKind {
    /// As the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::System => "system",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// As asked.
    #[default]
    Done,
    /// It was not allowed.
    Refused,
    /// It was not possible.
    Failed,
}

impl Outcome {
    /// As the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Something to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deed {
    /// When.
    pub at_ms: UnixMillis,
    /// Name of the account, token or part of the system.
    pub actor: String,
    /// What that is.
    pub kind: ActorKind,
    /// Its role.
    pub role: Option<String>,
    /// Address it came from.
    pub from: Option<String>,
    /// What was done: a word or two with a dot between.
    pub action: String,
    /// How it ended.
    pub outcome: Outcome,
    /// (0020,000D) of the study it was about.
    pub study_uid: Option<String>,
    /// (0010,0020) and (0010,0021) of the patient; looked up by the study where not given.
    pub patient: Option<(String, Option<String>)>,
    /// What else it was about.
    pub subject: Option<String>,
    /// In words.
    pub detail: Option<String>,
}

/// An entry of the trail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Place in the chain, from 1.
    pub seq: i64,
    /// Unix milliseconds.
    pub at_ms: UnixMillis,
    /// Name of the account, token or part of the system.
    pub actor: String,
    /// user, token or system.
    pub actor_kind: String,
    /// Its role.
    pub role: Option<String>,
    /// Address it came from.
    pub from: Option<String>,
    /// What was done.
    pub action: String,
    /// done, refused or failed.
    pub outcome: String,
    /// (0020,000D) of the study it was about.
    pub study_uid: Option<String>,
    /// (0010,0020)
    pub patient_id: Option<String>,
    /// (0010,0021)
    pub patient_issuer: Option<String>,
    /// What else it was about.
    pub subject: Option<String>,
    /// In words.
    pub detail: Option<String>,
    /// Digest of the entry before it; empty for the first.
    pub previous: String,
    /// SHA-256, in hexadecimal, of all the above in order.
    pub digest: String,
}

impl Entry {
    /// SHA-256 of the JSON array of all fields but itself, in their order.
    #[must_use]
    pub fn reckoned_digest(&self) -> String {
        let said = json!([
            self.seq,
            self.at_ms,
            self.actor,
            self.actor_kind,
            self.role,
            self.from,
            self.action,
            self.outcome,
            self.study_uid,
            self.patient_id,
            self.patient_issuer,
            self.subject,
            self.detail,
            self.previous
        ]);
        let digest = Sha256::digest(said.to_string().as_bytes());
        digest.iter().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
    }
}

impl Entry {
    /// Names of the columns of [`Entry::csv`].
    #[must_use]
    pub fn csv_head() -> String {
        "seq,at,actor,actor_kind,role,from,action,outcome,study_uid,patient_id,patient_issuer,\
         subject,detail,previous,digest\r\n"
            .to_owned()
    }

    /// As a record of comma-separated values (RFC 4180). A text that a spreadsheet would reckon gets an apostrophe.
    #[must_use]
    pub fn csv(&self) -> String {
        let (seq, at) = (self.seq.to_string(), rfc3339(self.at_ms));
        let or_none = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let fields = [
            seq,
            at,
            self.actor.clone(),
            self.actor_kind.clone(),
            or_none(&self.role),
            or_none(&self.from),
            self.action.clone(),
            self.outcome.clone(),
            or_none(&self.study_uid),
            or_none(&self.patient_id),
            or_none(&self.patient_issuer),
            or_none(&self.subject),
            or_none(&self.detail),
            self.previous.clone(),
            self.digest.clone(),
        ];
        let quoted = fields.map(|field| {
            let reckoned = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let field = if reckoned { format!("'{field}") } else { field };
            if field.contains(['"', ',', '\r', '\n']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            }
        });
        format!("{}\r\n", quoted.join(","))
    }

    /// As a line of JSON: its fields and `at` in words. The digest is of the fields as they stand here.
    #[must_use]
    pub fn json_line(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["at"] = json!(rfc3339(self.at_ms));
        format!("{value}\n")
    }
}

/// Which entries are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the actor.
    pub actor: Option<String>,
    /// What an action begins with.
    pub action: Option<String>,
    /// done, refused or failed.
    pub outcome: Option<String>,
    /// Of this study.
    pub study_uid: Option<String>,
    /// Of this patient.
    pub patient_id: Option<String>,
    /// And this issuer.
    pub patient_issuer: Option<String>,
    /// From this moment on.
    pub from_ms: Option<UnixMillis>,
    /// Before this moment.
    pub until_ms: Option<UnixMillis>,
}

/// What became of a look at the whole chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every entry follows from the one before it.
    Whole {
        /// How many there are.
        entries: i64,
        /// Digest of the last.
        head: String,
    },
    /// The first place at which it does not hold.
    Broken {
        /// Where.
        seq: i64,
        /// What is wrong there.
        why: String,
    },
}

impl Store {
    /// Adds to the trail, in this order; durable when it returns.
    ///
    /// # Errors
    /// When the database fails: then nothing was added.
    pub async fn keep_deeds(&self, deeds: &[Deed]) -> Result<(), StoreError> {
        if deeds.is_empty() {
            return Ok(());
        }
        let tx = self.begin().await?;
        append(&tx, deeds).await?;
        tx.commit().await
    }

    /// The end of the chain: place and digest of the last entry; 0 and nothing where there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_head(&self) -> Result<(i64, String), StoreError> {
        let head = audit_head::Entity::find_by_id(THE_ROW)
            .one(self.read())
            .await?;
        Ok(head.map_or((0, String::new()), |h| (h.seq, h.digest)))
    }

    /// Entries before this place, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_before(
        &self,
        wanted: &Wanted,
        before: i64,
        most: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        let rows = audit_trail::Entity::find()
            .filter(condition(wanted))
            .filter(audit_trail::Column::Id.lt(before))
            .order_by_desc(audit_trail::Column::Id)
            .limit(most)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Entries after this place, oldest first, at most [`PAGE_ENTRIES`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trail_after(&self, wanted: &Wanted, after: i64) -> Result<Vec<Entry>, StoreError> {
        let rows = audit_trail::Entity::find()
            .filter(condition(wanted))
            .filter(audit_trail::Column::Id.gt(after))
            .order_by_asc(audit_trail::Column::Id)
            .limit(PAGE_ENTRIES)
            .all(self.read())
            .await?;
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Reckons the whole chain again. `noted` is a head that was noted elsewhere: it must still be in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_trail(&self, noted: Option<(i64, &str)>) -> Result<Verdict, StoreError> {
        let (mut seq, mut digest) = (0, String::new());
        loop {
            let entries = self.trail_after(&Wanted::default(), seq).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let why = if entry.seq != seq + 1 {
                    "an entry is missing before it"
                } else if entry.previous != digest {
                    "it does not follow from the entry before it"
                } else if entry.reckoned_digest() != entry.digest {
                    "it was changed"
                } else if noted.is_some_and(|(n, d)| n == entry.seq && d != entry.digest) {
                    "it is not the one that was noted"
                } else {
                    (seq, digest) = (entry.seq, entry.digest);
                    continue;
                };
                let why = why.to_owned();
                let seq = entry.seq.min(seq + 1);
                return Ok(Verdict::Broken { seq, why });
            }
        }
        let head = self.trail_head().await?;
        // what was added while we looked
        if head.0 < seq || (head.0 == seq && head.1 != digest) {
            let why = "the end is not the one that was kept".to_owned();
            return Ok(Verdict::Broken { seq, why });
        }
        if head.0 > seq && self.trail_after(&Wanted::default(), seq).await?.is_empty() {
            let why = format!("entries up to {} are missing", head.0);
            return Ok(Verdict::Broken { seq: seq + 1, why });
        }
        if let Some((n, _)) = noted.filter(|(n, _)| *n > seq) {
            let why = format!("the end was cut off: entry {n} was noted");
            return Ok(Verdict::Broken { seq: seq + 1, why });
        }
        Ok(Verdict::Whole {
            entries: seq,
            head: digest,
        })
    }
}

/// Adds to the trail within a transaction, which holds the end of the chain from here on: keep it short.
pub(super) async fn append(tx: &DatabaseTransaction, deeds: &[Deed]) -> Result<(), StoreError> {
    let head = audit_head::Entity::find_by_id(THE_ROW)
        .lock_exclusive()
        .one(tx)
        .await?;
    let (mut seq, mut previous) = head.map_or((0, String::new()), |h| (h.seq, h.digest));
    let mut rows = Vec::with_capacity(deeds.len());
    for deed in deeds {
        let patient = match (&deed.patient, &deed.study_uid) {
            (Some(patient), _) => Some(patient.clone()),
            (None, Some(uid)) => patient_of(tx, uid).await?,
            (None, None) => None,
        };
        let (patient_id, patient_issuer) = match patient {
            Some((id, issuer)) => (Some(id), issuer),
            None => (None, None),
        };
        seq += 1;
        let short = |text: &Option<String>| text.as_deref().map(|t| plain(t, TEXT_BYTES_MAX));
        let mut entry = Entry {
            seq,
            at_ms: deed.at_ms,
            actor: plain(&deed.actor, TEXT_BYTES_MAX),
            actor_kind: deed.kind.as_str().to_owned(),
            role: short(&deed.role),
            from: short(&deed.from),
            action: plain(&deed.action, TEXT_BYTES_MAX),
            outcome: deed.outcome.as_str().to_owned(),
            study_uid: short(&deed.study_uid),
            patient_id: short(&patient_id),
            patient_issuer: short(&patient_issuer),
            subject: short(&deed.subject),
            detail: deed.detail.as_deref().map(|t| plain(t, DETAIL_BYTES_MAX)),
            previous,
            digest: String::new(),
        };
        entry.digest = entry.reckoned_digest();
        let next = entry.digest.clone();
        rows.push(row(entry));
        previous = next;
    }
    audit_trail::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    audit_head::Entity::update_many()
        .col_expr(audit_head::Column::Seq, Expr::value(seq))
        .col_expr(audit_head::Column::Digest, Expr::value(previous))
        .filter(audit_head::Column::Id.eq(THE_ROW))
        .exec(tx)
        .await?;
    Ok(())
}

async fn patient_of(
    tx: &DatabaseTransaction,
    study_uid: &str,
) -> Result<Option<(String, Option<String>)>, StoreError> {
    let found: Option<(Option<String>, Option<String>)> = study::Entity::find()
        .select_only()
        .columns([study::Column::PatientId, study::Column::PatientIssuer])
        .filter(study::Column::StudyUid.eq(study_uid))
        .into_tuple()
        .one(tx)
        .await?;
    Ok(found.and_then(|(id, issuer)| id.map(|id| (id, issuer))))
}

/// Without control characters, and so long at most: neither database nor page can be confused by it.
fn plain(text: &str, bytes_max: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    crate::dicom::guard::cut(text, bytes_max)
}

fn condition(wanted: &Wanted) -> Condition {
    use audit_trail::Column;
    let equal = [
        (Column::Actor, &wanted.actor),
        (Column::Outcome, &wanted.outcome),
        (Column::StudyUid, &wanted.study_uid),
        (Column::PatientId, &wanted.patient_id),
        (Column::PatientIssuer, &wanted.patient_issuer),
    ];
    let mut condition = Condition::all();
    for (column, value) in equal {
        condition = condition.add_option(value.as_ref().map(|v| column.eq(v)));
    }
    let begins = wanted.action.as_ref();
    condition
        .add_option(begins.map(|a| Column::Action.starts_with(a)))
        .add_option(wanted.from_ms.map(|at| Column::At.gte(at)))
        .add_option(wanted.until_ms.map(|at| Column::At.lt(at)))
}

fn row(e: Entry) -> audit_trail::ActiveModel {
    audit_trail::ActiveModel {
        id: Set(e.seq),
        at: Set(e.at_ms),
        actor: Set(e.actor),
        actor_kind: Set(e.actor_kind),
        role: Set(e.role),
        from_address: Set(e.from),
        action: Set(e.action),
        outcome: Set(e.outcome),
        study_uid: Set(e.study_uid),
        patient_id: Set(e.patient_id),
        patient_issuer: Set(e.patient_issuer),
        subject: Set(e.subject),
        detail: Set(e.detail),
        previous: Set(e.previous),
        digest: Set(e.digest),
    }
}

fn entry(row: audit_trail::Model) -> Entry {
    Entry {
        seq: row.id,
        at_ms: row.at,
        actor: row.actor,
        actor_kind: row.actor_kind,
        role: row.role,
        from: row.from_address,
        action: row.action,
        outcome: row.outcome,
        study_uid: row.study_uid,
        patient_id: row.patient_id,
        patient_issuer: row.patient_issuer,
        subject: row.subject,
        detail: row.detail,
        previous: row.previous,
        digest: row.digest,
    }
}
