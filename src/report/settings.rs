//! Settings of reports.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Language;

/// `[report]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportSettings {
    /// `report.language`: `en` or `de`.
    pub language: Language,
    /// `report.fonts`: the folder that `DejaVuSans.ttf` and `DejaVuSans-Bold.ttf` lie in.
    pub fonts: PathBuf,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            language: Language::En,
            fonts: "/usr/share/fonts/truetype/dejavu".into(),
        }
    }
}
