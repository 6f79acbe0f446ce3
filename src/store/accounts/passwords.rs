//! Rules for passwords (after NIST SP 800-63B 3.1.1), and how they are kept.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use super::{AccountError, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, random_bytes, random_hex};

/// Characters of a generated password: none that are taken for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a generated password, in groups of four.
const GENERATED_CHARS: usize = 16;
/// Fewest different characters.
const DIFFERENT_MIN: usize = 5;
/// Words that make no password, whatever digits and signs stand around them.
const WORDS: [&str; 20] = [
    "password",
    "passwort",
    "passwords",
    "qwerty",
    "qwertyuiop",
    "qwertz",
    "qwertzuiop",
    "letmein",
    "welcome",
    "willkommen",
    "changeme",
    "admin",
    "administrator",
    "firstread",
    "radiology",
    "radiologie",
    "hospital",
    "krankenhaus",
    "iloveyou",
    "abcdefghijkl",
];
/// Shortest name that a password must not contain.
const NAME_CHARS_MIN: usize = 4;

/// Refuses a password that is guessed early.
pub(super) fn check(name: &str, password: &str) -> Result<(), AccountError> {
    let bad = |why| Err(AccountError::BadPassword(why));
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return bad("is too short: it must have at least 12 characters");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return bad("is too long: it may have at most 512 bytes");
    }
    let lower = password.to_lowercase();
    let different: std::collections::BTreeSet<char> = lower.chars().collect();
    if different.len() < DIFFERENT_MIN {
        return bad("repeats the same few characters");
    }
    let steps = lower.as_bytes().windows(2);
    if steps
        .clone()
        .all(|w| w[1].wrapping_sub(w[0]) == 1 || w == b"90")
    {
        return bad("is a row of characters that follow each other");
    }
    let letters: String = lower.chars().filter(|c| c.is_alphabetic()).collect();
    let halves = WORDS.iter().any(|w| letters == w.repeat(2));
    if halves || WORDS.contains(&letters.as_str()) {
        return bad("is among the first that are tried");
    }
    let name = name.trim().to_lowercase();
    if name.chars().count() >= NAME_CHARS_MIN && lower.contains(&name) {
        return bad("contains the name of the account");
    }
    Ok(())
}

pub(super) fn generate_password() -> Result<String, AccountError> {
    let letters: Vec<char> = random_bytes::<GENERATED_CHARS>()?
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect();
    let groups: Vec<String> = letters.chunks(4).map(|c| c.iter().collect()).collect();
    Ok(groups.join("-"))
}

pub(super) async fn hash_password(password: String) -> Result<String, AccountError> {
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

pub(super) async fn verify_password(password: String, hash: String) -> Result<bool, AccountError> {
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
pub(super) async fn decoy_hash() -> Result<String, AccountError> {
    static DECOY: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    DECOY
        .get_or_try_init(|| async { hash_password(random_hex()?).await })
        .await
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_word(password: &str, why: &str) {
        match check("anna.berg", password) {
            Ok(()) => assert_eq!(why, "", "{password}"),
            Err(e) => assert!(!why.is_empty() && e.to_string().contains(why), "{e}"),
        }
    }

    #[test]
    fn what_is_guessed_early_is_refused() {
        check_word("correct horse battery", "");
        check_word("wei\u{df}er Kittel 3", "");
        check_word("elevenchars", "too short");
        check_word("", "too short");
        check_word(&"long".repeat(200), "too long");
        check_word("abababababab", "repeats");
        check_word("1234567890123", "follow each other");
        check_word("abcdefghijklm", "follow each other");
        check_word("Password1234", "first that are tried");
        check_word("PasswortPasswort", "first that are tried");
        check_word("!!Radiology2026", "first that are tried");
        check_word("my anna.berg 77", "name of the account");
    }

    #[test]
    fn what_we_make_passes() {
        for _ in 0..50 {
            let made = generate_password().unwrap();
            assert!(check("anna.berg", &made).is_ok(), "{made}");
        }
    }
}
