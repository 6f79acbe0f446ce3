//! Passwords and keys: given as a setting or alone in a file, and never shown.

use std::path::Path;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AsWritten)
    }
}

/// Takes what stands there without quotes too, where no digit of it is lost. No error shows what stands there.
struct AsWritten;

impl Visitor<'_> for AsWritten {
    type Value = Secret;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Secret, E> {
        Ok(Secret(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Secret, E> {
        Ok(Secret(number.to_string()))
    }

    fn visit_bool<E>(self, word: bool) -> Result<Secret, E> {
        Ok(Secret(word.to_string()))
    }

    // `1.50` is the same number as `1.5`: how it was written is not known any more.
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom("a number with a point must stand in quotes here"))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

impl Secret {
    /// The text; from `file`, without the end of its line, where one is given. `key` is the file's setting.
    ///
    /// # Errors
    /// Names the setting when the file cannot be read or is no text.
    pub fn read(&self, key: &str, file: &Path) -> Result<String, String> {
        if file.as_os_str().is_empty() {
            return Ok(self.0.clone());
        }
        let bytes = read_file(key, file)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{key} does not hold UTF-8"))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// What a setting points to.
///
/// # Errors
/// Names the setting when the file cannot be read.
pub fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("could not read {key} {}: {e}", path.display()))
}
