//! Model cards: what a network gives and on what terms. A model without a matching card is refused.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::followup::Repeats;

/// The parts of `models/NAME.toml` that the server acts on.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelCard {
    /// Name of the network.
    pub name: String,
    /// Its version.
    pub version: String,
    /// ONNX file beside the card.
    pub file: String,
    /// SHA-256 of that file, lower-case hex.
    pub sha256: String,
    /// FreeSurfer code of each channel; the first is background.
    pub codes: Vec<i64>,
    /// Share of abnormal cases among the maps that calibration was made on. Screening only, as
    /// the next two.
    #[serde(default = "half")]
    pub prevalence_train: f64,
    /// `head_logit` below it: does not look like a head.
    #[serde(default)]
    pub head_threshold: f64,
    /// Study logit to calibrated logit.
    #[serde(default)]
    pub calibration: Calibration,
    /// The network's input.
    pub input: InputCard,
}

/// calibrated logit = scale * `p_logit` + offset
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Calibration {
    /// Factor.
    pub scale: f64,
    /// Offset.
    pub offset: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            scale: 1.0,
            offset: 0.0,
        }
    }
}

fn half() -> f64 {
    0.5
}

/// What the network wants to see.
#[derive(Debug, Clone, Deserialize)]
pub struct InputCard {
    /// Voxels along x, y, z.
    pub grid: [usize; 3],
    /// Isotropic spacing.
    pub spacing_mm: f64,
}

/// `models/NAME.norms.toml`: fixed offsets of the network's volumes against the norm table,
/// measured on healthy scans. It belongs to one model file and is ignored beside another.
#[derive(Debug, Clone, Deserialize)]
pub struct NormOffsets {
    /// The model it was measured with.
    pub model_sha256: String,
    /// How many healthy scans it rests on.
    pub scans: u32,
    /// Per structure of the norm table.
    pub structures: BTreeMap<String, StructureOffset>,
}

/// Offset of one structure.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct StructureOffset {
    /// Mean of `r` over healthy scans, ln mm3.
    pub offset: f64,
    /// Standard deviation of `r` over healthy scans: never narrower than what we measured.
    pub sd: f64,
}

impl ModelCard {
    /// Reads `models/NAME.toml` and checks the model file against it.
    ///
    /// # Errors
    /// Says what is missing or does not match.
    pub fn read(folder: &Path, name: &str) -> Result<(Self, Vec<u8>), String> {
        let path = folder.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("model card {}: {e}", path.display()))?;
        let card: Self = toml::from_str(&text)
            .map_err(|e| format!("model card {}: {}", path.display(), e.message()))?;
        card.check()
            .map_err(|e| format!("model card {}: {e}", path.display()))?;
        let file = folder.join(&card.file);
        let bytes = std::fs::read(&file).map_err(|e| format!("model {}: {e}", file.display()))?;
        let digest = hex(&Sha256::digest(&bytes));
        if digest != card.sha256 {
            return Err(format!(
                "model {} does not match its card: sha256 is {digest}, the card says {}",
                file.display(),
                card.sha256
            ));
        }
        Ok((card, bytes))
    }

    fn check(&self) -> Result<(), String> {
        let ok = !self.file.contains(['/', '\\'])
            && self.codes.first() == Some(&0)
            && self.prevalence_train > 0.0
            && self.prevalence_train < 1.0
            && self.calibration.scale > 0.0
            && self.calibration.offset.is_finite()
            && self.input.spacing_mm > 0.0
            && self.input.grid.iter().all(|n| (16..=512).contains(n));
        if ok {
            Ok(())
        } else {
            Err("a value is out of range".into())
        }
    }

    /// `NAME VERSION (first digits of the file's SHA-256)`, as results are marked.
    #[must_use]
    pub fn label(&self) -> String {
        format!(
            "{} {} ({})",
            self.name,
            self.version,
            &self.sha256[..12.min(self.sha256.len())]
        )
    }
}

impl NormOffsets {
    /// Reads `models/NAME.norms.toml`, if it is there and belongs to this model.
    #[must_use]
    pub fn read(folder: &Path, card: &ModelCard) -> Option<Self> {
        let text =
            std::fs::read_to_string(folder.join(format!("{}.norms.toml", card.name))).ok()?;
        let offsets: Self = toml::from_str(&text).ok()?;
        (offsets.model_sha256 == card.sha256).then_some(offsets)
    }
}

/// Reads `models/NAME.repeat.toml`, if it is there and belongs to this model.
pub(super) fn read_repeats(folder: &Path, card: &ModelCard) -> Option<Repeats> {
    let file = folder.join(format!("{}.repeat.toml", card.name));
    let repeats: Repeats = toml::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    (repeats.model_sha256 == card.sha256).then_some(repeats)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
}
