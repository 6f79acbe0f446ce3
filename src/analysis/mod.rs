//! Networks on volumes: sessions, pre- and post-processing, and what they found in words.

pub mod analyze;
mod card;
mod engine;
mod findings;
mod follow_up;
mod lesions;
mod measurement;
pub mod measuring;
pub mod outlines;
mod pictures;
mod pipeline;
mod quality;
mod screening;
mod stage_two;
mod standing;
pub mod volumes;
mod volumetry;
mod volumetry_findings;

pub(crate) use card::hex;
pub use card::{ModelCard, NormOffsets};
pub use engine::{Engine, EngineSettings, Runtime, TELEMETRY_OFF, is_silent, norms_of};
pub use findings::{Measured, measure};
pub use lesions::LESION_CODE;
pub use measurement::{
    Asymmetry, Index, Lesion, LesionRegion, Lesions, Measurement, Quality, Region, Remark,
};
pub use pictures::{OUTLINES, Outline, PLANES, draw};
pub use pipeline::{Analyst, SeriesOutcome, screen_volume};
pub use screening::{Screened, screen};
pub use stage_two::{LESIONS, SEGMENTATION, scanner_name};
pub use volumetry::Segmented;
