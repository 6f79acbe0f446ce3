//! Networks on volumes: sessions, pre- and post-processing, and what they found in words.

pub mod analyze;
mod card;
mod engine;
mod findings;
mod measurement;
mod pictures;
mod pipeline;
mod screening;
pub mod volumes;

pub(crate) use card::hex;
pub use card::{ModelCard, NormOffsets};
pub use engine::{Engine, EngineSettings, Runtime};
pub use findings::{Measured, measure};
pub use measurement::{
    Asymmetry, Index, Lesion, LesionRegion, Lesions, Measurement, Quality, Region, Remark,
};
pub use pictures::{OUTLINES, Outline, PLANES, draw};
pub use pipeline::{Analyst, SeriesOutcome, screen_volume};
pub use screening::{Screened, screen};
