//! Signed links and short codes.
//!
//! A link acknowledges what one delivery said. It carries the delivery's number and a code that only
//! this server can make (HMAC-SHA256, RFC 2104), so nothing is stored for it and nobody can guess one.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Letters that are not taken for others, neither in print nor on the phone.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of a signature: 80 bits, which only this server can be asked about.
const SIGNATURE_CHARS: usize = 16;
/// Letters of a short code: one in a million, among the studies of one night.
const CODE_CHARS: usize = 4;
/// Bytes of the key (RFC 2104 3: as long as the hash).
const KEY_BYTES: usize = 32;

/// What people call a study on the phone. It says nothing about the patient.
#[must_use]
pub fn short_code(study_uid: &str) -> String {
    letters(&Sha256::digest(study_uid.as_bytes()), CODE_CHARS).to_uppercase()
}

fn letters(bytes: &[u8], n: usize) -> String {
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
    bytes.iter().take(n).map(letter).collect()
}

/// Makes and checks signed links.
#[derive(Clone)]
pub struct Links([u8; KEY_BYTES]);

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links(..)")
    }
}

impl Links {
    /// With the key in the data folder, made at the first start: links outlive a restart.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or holds something else.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("links.key");
        match std::fs::read(&path) {
            Ok(bytes) => Self::of(&bytes).ok_or_else(|| {
                let what = format!("{} does not hold {KEY_BYTES} bytes", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                file.write_all(&key)?;
                file.sync_all()?;
                Ok(Self(key))
            }
            Err(e) => Err(e),
        }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// What the link of a delivery ends in.
    #[must_use]
    pub fn token(&self, delivery_id: i64) -> String {
        format!("{delivery_id}.{}", self.signature(delivery_id))
    }

    /// The delivery that a token is of, where we made it.
    #[must_use]
    pub fn delivery_of(&self, token: &str) -> Option<i64> {
        let (id, signature) = token.split_once('.')?;
        let id: i64 = id.parse().ok()?;
        let expected = self.token(id);
        let given = format!("{id}.{signature}");
        bool::from(expected.as_bytes().ct_eq(given.as_bytes())).then_some(id)
    }

    fn signature(&self, delivery_id: i64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("HMAC takes a key of any length (RFC 2104 2)");
        mac.update(b"acknowledge\n");
        mac.update(&delivery_id.to_be_bytes());
        letters(&mac.finalize().into_bytes(), SIGNATURE_CHARS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_links_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::open(folder.path()).unwrap();
        let token = links.token(17);
        assert_eq!(links.delivery_of(&token), Some(17));
        let again = Links::open(folder.path()).unwrap();
        assert_eq!(again.token(17), token, "the key is kept");
        let signature = token.split_once('.').unwrap().1;
        let upper = token.to_uppercase();
        for bad in [
            "",
            "17",
            "17.",
            "x.y",
            &format!("18.{signature}"),
            &format!("17.{signature}a"),
            &upper,
        ] {
            assert_eq!(links.delivery_of(bad), None, "{bad}");
        }
        let other = Links::open(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(other.delivery_of(&token), None, "another site's key");
        std::fs::write(folder.path().join("links.key"), b"short").unwrap();
        assert!(Links::open(folder.path()).is_err());
    }

    #[test]
    fn a_short_code_is_short_and_the_study_s_own() {
        let code = short_code("1.2.3");
        assert_eq!(code.len(), 4);
        assert_eq!(code, short_code("1.2.3"));
        assert_ne!(code, short_code("1.2.4"));
    }
}
