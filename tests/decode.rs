//! Series of real scanners through the decoding child: against dcm2niix, in every compression,
//! with odd geometry, and with files made to break decoders.

#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

mod common;
#[path = "decode/hostile.rs"]
mod hostile;
#[path = "decode/series.rs"]
mod series;
#[path = "decode/truth.rs"]
mod truth;

use std::path::{Path, PathBuf};

use common::{BINARY, dicom_files, real_study};
use firstread::dicom::decode::{DecodeError, DecodeLimits, Decoded, decode_series_with};
use firstread::volume::content::ContentLimits;

/// Decodes without asking for the size of a head.
async fn decode(files: &[PathBuf]) -> Result<Decoded, DecodeError> {
    let limits = DecodeLimits {
        content: ContentLimits::any_size(),
        ..DecodeLimits::default()
    };
    decode_series_with(Path::new(BINARY), files, &limits).await
}

/// Images of one folder of a data set, or `None` (said aloud) where there is no data.
fn files(data_set: &str, folder: &str) -> Option<Vec<PathBuf>> {
    let Some(root) = real_study(data_set) else {
        eprintln!("skipped: no reference scans (FIRSTREAD_TEST_DATA)");
        return None;
    };
    Some(dicom_files(&root.join(data_set).join(folder)))
}
