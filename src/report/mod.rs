//! The report of one study: the same numbers as a web page and as a PDF of at most two pages,
//! in English or German.
//!
//! [`facts::Facts`] are what was measured, in numbers and codes; [`content::Content`] is how that is
//! said, in one language. Page and PDF show nothing but the content, so they cannot disagree.

pub mod change;
pub mod content;
pub mod curves;
pub mod facts;
pub mod key_images;
mod lines;
pub mod names;
pub mod pdf;
mod settings;
pub mod words;

use std::sync::Arc;

pub use content::Content;
pub use facts::Facts;
pub use settings::ReportSettings;
pub use words::Language;

use crate::analysis::NormOffsets;
use crate::norms::Norms;

/// What the norm table in `norms/` is called in reports.
pub const NORM_TABLE_NAME: &str = "norms_synthseg_v0";

/// What turns facts into a report: the norms that volumes were compared with, and how it is said.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// Settings.
    pub settings: ReportSettings,
    /// Norm table.
    pub norms: Arc<Norms>,
    /// The site's: in which a report says when it was made.
    pub time_zone: chrono_tz::Tz,
    /// Offsets of the screening network, and the label that its results carry.
    pub screening: Option<(String, NormOffsets)>,
    /// The same of the measuring network.
    pub measuring: Option<(String, NormOffsets)>,
}

impl Reporter {
    /// Says the facts in a language; the site's where none is asked for.
    #[must_use]
    pub fn content(&self, facts: &Facts, language: Option<Language>) -> Content {
        content::content(facts, self, language.unwrap_or(self.settings.language))
    }
}
