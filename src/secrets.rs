//! Secrets at rest: what others give us to send back to them is sealed with a key in the data folder.
//!
//! Whoever has the database alone reads none of it. Secrets of the site itself are not kept at all: settings point to
//! a file or to the environment. The first password alone lies in a file, until it is changed.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Name of the key's file.
const KEY_FILE: &str = "secrets.key";
/// Name of the file that the first password is handed over in.
pub const FIRST_PASSWORD: &str = "first-password";
/// Bytes of the key (RFC 8439 2.8).
const KEY_BYTES: usize = 32;

/// Seals and opens with the key of this data folder.
pub struct Vault(LessSafeKey);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// With the key in the data folder, made at the first start.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or holds something else.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(KEY_FILE);
        let key = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_key(&path)?,
            Err(e) => return Err(e),
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| {
            let what = format!("{} does not hold {KEY_BYTES} bytes", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Text as hexadecimal digits that only this key opens. The same text is sealed differently each time.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn seal(&self, text: &str) -> Result<String, String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|e| format!("could not seal: {e}"))?;
        let mut sealed = text.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)
            .map_err(|_| "could not seal".to_owned())?;
        Ok(hex(&nonce) + hex(&sealed).as_str())
    }

    /// What [`Vault::seal`] was given; `None` where it was sealed with another key, or changed.
    #[must_use]
    pub fn unseal(&self, sealed: &str) -> Option<String> {
        let bytes = unhex(sealed)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self
            .0
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

/// Writes the first password into a file of the data folder that nobody else reads; gives where.
///
/// # Errors
/// When it cannot be written.
pub fn write_first_password(data: &Path, password: &str) -> io::Result<PathBuf> {
    let path = data.join(FIRST_PASSWORD);
    // Of a start that did not come to its end.
    forget_first_password(data)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(format!("{password}\n").as_bytes())?;
    file.sync_all()?;
    Ok(path)
}

/// Removes that file, where there is one.
///
/// # Errors
/// When it cannot be removed.
pub fn forget_first_password(data: &Path) -> io::Result<()> {
    match std::fs::remove_file(data.join(FIRST_PASSWORD)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_sealed_opens() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let vault = Vault::open(here.path()).unwrap();
        let sealed = vault.seal("Authorization: Bearer s3cret").unwrap();
        assert!(!sealed.contains("s3cret"));
        assert_ne!(sealed, vault.seal("Authorization: Bearer s3cret").unwrap());
        let again = Vault::open(here.path()).unwrap();
        let opened = again.unseal(&sealed);
        assert_eq!(opened.as_deref(), Some("Authorization: Bearer s3cret"));
        let other = Vault::open(elsewhere.path()).unwrap();
        let changed = format!("{}00", &sealed[..sealed.len() - 2]);
        for bad in [sealed.as_str(), &changed, "", "0", "zz", "00"] {
            assert_eq!(other.unseal(bad), None, "{bad}");
        }
        assert_eq!(vault.unseal(&changed), None);
        std::fs::write(here.path().join(KEY_FILE), "short").unwrap();
        assert!(Vault::open(here.path()).is_err());
    }
}
