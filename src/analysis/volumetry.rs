//! The measuring network on one volume: labels at 1 mm, soft volumes, lesions.

use std::time::Instant;

use ort::value::Tensor;

use super::engine::{Engine, floats, labels};
use super::screening::Screened;
use crate::volume::Volume;
use crate::volume::measuring_grid::{self, Brain, GRID, MeasuringGrid, Placement};

/// What the network said, on its own grid (z fastest).
#[derive(Debug, Clone)]
pub struct Segmented {
    /// Where that grid lies.
    pub placement: Placement,
    /// The network's input, 0 to 1.5.
    pub image: Vec<f32>,
    /// FreeSurfer code of each voxel.
    pub codes: Vec<u8>,
    /// Probability of a lesion, 0 to 1.
    pub lesion: Vec<f32>,
    /// Soft volume of each of the card's codes.
    pub volumes_mm3: Vec<f64>,
    /// Mean probability of the voxels of each of the card's codes, 0 where there are none.
    pub confidence: Vec<f64>,
    /// Milliseconds for the grid.
    pub grid_ms: u64,
    /// Milliseconds of the network alone.
    pub network_ms: u64,
}

/// Puts the box around the brain that screening saw and runs the network. Blocking, and heavy.
/// The inner error says why this picture cannot be measured.
///
/// # Errors
/// When the runtime fails or gives other outputs than the card says.
pub fn segment(
    engine: &Engine,
    volume: &Volume,
    screened: &Screened,
) -> Result<Result<Segmented, String>, String> {
    if engine.card.input.grid != GRID {
        return Err("the network wants another grid than this program makes".into());
    }
    let started = Instant::now();
    let brain = Brain {
        labels: &screened.labels,
        codes: &screened.codes,
        dims: screened.dims,
        affine: screened.affine,
    };
    let MeasuringGrid { placement, data } = match measuring_grid::prepare(volume, &brain) {
        Ok(grid) => grid,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let grid_ms = millis(started);
    let started = Instant::now();
    let raw = run(engine, &data)?;
    let network_ms = millis(started);
    let voxel_mm3 = placement.voxel_mm3();
    let known: Vec<u8> = engine
        .card
        .codes
        .iter()
        .map(|code| u8::try_from(*code).unwrap_or(0))
        .collect();
    Ok(Ok(Segmented {
        placement,
        image: data,
        codes: raw.labels.iter().map(|l| known[usize::from(*l)]).collect(),
        lesion: raw.lesion,
        volumes_mm3: raw
            .volumes_voxels
            .iter()
            .map(|v| f64::from(*v) * voxel_mm3)
            .collect(),
        confidence: raw.confidence.iter().map(|v| f64::from(*v)).collect(),
        grid_ms,
        network_ms,
    }))
}

struct Raw {
    labels: Vec<u8>,
    volumes_voxels: Vec<f32>,
    confidence: Vec<f32>,
    lesion: Vec<f32>,
}

fn run(engine: &Engine, image: &[f32]) -> Result<Raw, String> {
    let text = |e: ort::Error| format!("the network failed: {e}");
    let [x, y, z] = GRID;
    let input = Tensor::from_array(([1, 1, x, y, z], image.to_vec())).map_err(text)?;
    let mut session = engine
        .session
        .lock()
        .map_err(|_| "the network is broken".to_owned())?;
    let outputs = session
        .run_with_options(ort::inputs!["image" => input], &engine.options)
        .map_err(text)?;
    let (voxels, codes) = (x * y * z, engine.card.codes.len());
    Ok(Raw {
        labels: labels(&outputs, voxels, codes)?,
        volumes_voxels: floats(&outputs, "volumes_voxels", codes)?,
        confidence: floats(&outputs, "confidence", codes)?,
        lesion: floats(&outputs, "lesion", voxels)?,
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
