//! The screening network on one volume.

use std::time::Instant;

use ort::value::Tensor;

use super::engine::{Engine, floats, labels};
use crate::volume::screening_grid::{self, Grid};
use crate::volume::{Affine, Volume};

/// What the network said, on its own 2 mm grid.
#[derive(Debug, Clone)]
pub struct Screened {
    /// Voxels along x, y, z.
    pub dims: [usize; 3],
    /// Voxel to RAS mm.
    pub affine: Affine,
    /// The network's input, z fastest, 0 to 1.5.
    pub image: Vec<f32>,
    /// Index into the codes, z fastest.
    pub labels: Vec<u8>,
    /// FreeSurfer code of each label: the card's.
    pub codes: Vec<i64>,
    /// Probability of abnormal tissue, 0 to 1, z fastest.
    pub abnormality: Vec<f32>,
    /// Soft volume of each of the card's codes.
    pub volumes_mm3: Vec<f64>,
    /// Study logit, not calibrated.
    pub p_logit: f64,
    /// "This is a head" logit.
    pub head_logit: f64,
    /// Calibrated probability of an abnormal study.
    pub p_calibrated: f64,
    /// Milliseconds for resampling and for the network.
    pub resample_ms: u64,
    /// Milliseconds of the network alone.
    pub network_ms: u64,
}

/// Resamples and runs the network. Blocking, and heavy: call it off the async threads.
///
/// # Errors
/// When the runtime fails or gives other outputs than the card says.
pub fn screen(engine: &Engine, volume: &Volume) -> Result<Screened, String> {
    let started = Instant::now();
    let grid = screening_grid::prepare(volume);
    let resample_ms = millis(started);
    if grid.dims != engine.card.input.grid {
        return Err("the network wants another grid than this program makes".into());
    }
    let started = Instant::now();
    let raw = run(engine, &grid)?;
    let network_ms = millis(started);
    let calibration = engine.card.calibration;
    let logit = calibration.scale * raw.p_logit + calibration.offset;
    Ok(Screened {
        dims: grid.dims,
        affine: grid.affine,
        image: grid.data,
        labels: raw.labels,
        codes: engine.card.codes.clone(),
        abnormality: raw.abnormality,
        volumes_mm3: raw.volumes_mm3,
        p_logit: raw.p_logit,
        head_logit: raw.head_logit,
        p_calibrated: crate::triage::logistic(logit),
        resample_ms,
        network_ms,
    })
}

struct Raw {
    labels: Vec<u8>,
    abnormality: Vec<f32>,
    volumes_mm3: Vec<f64>,
    p_logit: f64,
    head_logit: f64,
}

fn run(engine: &Engine, grid: &Grid) -> Result<Raw, String> {
    let text = |e: ort::Error| format!("the network failed: {e}");
    let [x, y, z] = grid.dims;
    let input = Tensor::from_array(([1, 1, x, y, z], grid.data.clone())).map_err(text)?;
    let mut session = engine
        .session
        .lock()
        .map_err(|_| "the network is broken".to_owned())?;
    let outputs = session
        .run_with_options(ort::inputs!["image" => input], &engine.options)
        .map_err(text)?;
    let voxels = x * y * z;
    let codes = engine.card.codes.len();
    Ok(Raw {
        labels: labels(&outputs, voxels, codes)?,
        abnormality: floats(&outputs, "abnormality", voxels)?,
        volumes_mm3: floats(&outputs, "volumes_mm3", codes)?
            .into_iter()
            .map(f64::from)
            .collect(),
        p_logit: f64::from(floats(&outputs, "p_logit", 1)?[0]),
        head_logit: f64::from(floats(&outputs, "head_logit", 1)?[0]),
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
