//! Passwords and keys: given as a setting or alone in a file, and never shown.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

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
