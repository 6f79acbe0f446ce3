//! How good a segmentation is: overlap, surfaces, volumes, lesions, and agreement between raters. Pure.

mod agreement;
mod labels;
mod lesions;
pub mod plot;
mod proportion;
mod surface;

pub use agreement::{
    BlandAltman, Interval, bland_altman, bootstrap_mean, correlation, icc_agreement,
};
pub use labels::{Labels, STRUCTURES, Scheme, Structure, on_grid};
pub use lesions::{LesionScores, lesion_scores};
pub use proportion::wilson;
pub use surface::{SurfaceDistance, surface_distance};

use serde::Serialize;

use crate::volume::affine::voxel_sizes;

/// One structure of one case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StructureScores {
    /// 2 |A and B| / (|A| + |B|), mean of the sides; null where the truth has none.
    pub dice: Option<f64>,
    /// Mean distance between the surfaces, both ways, mm; mean of the sides; null where either has none.
    pub surface_mean_mm: Option<f64>,
    /// 95th percentile of those distances, mm; the worse side.
    pub surface_p95_mm: Option<f64>,
    /// Both sides together.
    pub truth_mm3: f64,
    /// Both sides together.
    pub prediction_mm3: f64,
}

/// Scores of all [`STRUCTURES`], in their order. Both must be on one grid.
///
/// # Errors
/// When the grids differ in size.
pub fn compare(truth: &Labels, prediction: &Labels) -> Result<Vec<StructureScores>, String> {
    if truth.dims != prediction.dims {
        return Err(format!(
            "{:?} voxels against {:?}",
            prediction.dims, truth.dims
        ));
    }
    let counts = Counts::of(truth, prediction);
    let voxel_mm3: f64 = voxel_sizes(&truth.affine).iter().product();
    let of = |structure: &Structure| {
        let sides = || structure.codes.iter().copied();
        let surfaces: Vec<SurfaceDistance> = sides()
            .filter_map(|code| surface_distance(truth, prediction, code))
            .collect();
        let all_there = surfaces.len() == structure.codes.len();
        StructureScores {
            dice: mean(sides().filter_map(|code| counts.dice(code))),
            surface_mean_mm: mean(surfaces.iter().map(|s| s.mean_mm)).filter(|_| all_there),
            surface_p95_mm: surfaces
                .iter()
                .map(|s| s.p95_mm)
                .max_by(f64::total_cmp)
                .filter(|_| all_there),
            truth_mm3: sides().map(|c| counts.truth[usize::from(c)]).sum::<f64>() * voxel_mm3,
            prediction_mm3: sides()
                .map(|c| counts.prediction[usize::from(c)])
                .sum::<f64>()
                * voxel_mm3,
        }
    };
    Ok(STRUCTURES.iter().map(of).collect())
}

/// Voxels of each code.
struct Counts {
    truth: [f64; 64],
    prediction: [f64; 64],
    both: [f64; 64],
}

impl Counts {
    fn of(truth: &Labels, prediction: &Labels) -> Self {
        let mut counts = Self {
            truth: [0.0; 64],
            prediction: [0.0; 64],
            both: [0.0; 64],
        };
        for (t, p) in truth.codes.iter().zip(&prediction.codes) {
            counts.truth[usize::from(*t)] += 1.0;
            counts.prediction[usize::from(*p)] += 1.0;
            if t == p {
                counts.both[usize::from(*t)] += 1.0;
            }
        }
        counts
    }

    fn dice(&self, code: u8) -> Option<f64> {
        let code = usize::from(code);
        let total = self.truth[code] + self.prediction[code];
        (self.truth[code] > 0.0).then(|| 2.0 * self.both[code] / total)
    }
}

/// Mean; `None` of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests;
