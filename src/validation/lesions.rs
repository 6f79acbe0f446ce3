//! Lesions one by one: which were found, which were not there.

use serde::Serialize;

use super::Labels;
use crate::volume::affine::voxel_sizes;

/// Smaller components are noise of the mask's border and count nowhere, mm3.
const LESION_MM3_MIN: f64 = 3.0;

/// A lesion mask against the truth. Code 1 is lesion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LesionScores {
    /// Voxel-wise; null where neither has a lesion.
    pub dice: Option<f64>,
    /// 2 TP / (2 TP + FP + FN) over lesions; null where neither has one.
    pub f1: Option<f64>,
    /// Lesions of the truth that the prediction touches.
    pub found: usize,
    /// Lesions of the truth that it does not touch.
    pub missed: usize,
    /// Lesions of the prediction that touch none of the truth.
    pub invented: usize,
    /// Volume of the truth, mm3.
    pub truth_mm3: f64,
    /// Volume of the prediction, mm3.
    pub prediction_mm3: f64,
}

/// Scores of a lesion mask; lesions are connected by faces, edges or corners.
///
/// # Errors
/// When the grids differ in size.
pub fn lesion_scores(truth: &Labels, prediction: &Labels) -> Result<LesionScores, String> {
    if truth.dims != prediction.dims {
        return Err(format!(
            "{:?} voxels against {:?}",
            prediction.dims, truth.dims
        ));
    }
    let voxel_mm3: f64 = voxel_sizes(&truth.affine).iter().product();
    let count = |labels: &Labels| labels.codes.iter().map(|c| f64::from(*c == 1)).sum::<f64>();
    let (t, p) = (count(truth), count(prediction));
    let pairs = truth.codes.iter().zip(&prediction.codes);
    let both: f64 = pairs.map(|(t, p)| f64::from(*t == 1 && *p == 1)).sum();
    let touched = |lesions: &[Vec<usize>], other: &Labels| {
        let touches = |lesion: &&Vec<usize>| lesion.iter().any(|at| other.codes[*at] == 1);
        lesions.iter().filter(touches).count()
    };
    let (truth_lesions, predicted) = (lesions(truth, voxel_mm3), lesions(prediction, voxel_mm3));
    let found = touched(&truth_lesions, prediction);
    let missed = truth_lesions.len() - found;
    let invented = predicted.len() - touched(&predicted, truth);
    #[expect(clippy::cast_precision_loss, reason = "numbers of lesions are small")]
    let f1 = {
        let (tp, wrong) = (2.0 * found as f64, (missed + invented) as f64);
        (tp + wrong > 0.0).then(|| tp / (tp + wrong))
    };
    Ok(LesionScores {
        dice: (t + p > 0.0).then(|| 2.0 * both / (t + p)),
        f1,
        found,
        missed,
        invented,
        truth_mm3: t * voxel_mm3,
        prediction_mm3: p * voxel_mm3,
    })
}

/// Voxels of each lesion that is large enough.
fn lesions(labels: &Labels, voxel_mm3: f64) -> Vec<Vec<usize>> {
    let mut seen = vec![false; labels.codes.len()];
    let mut all = Vec::new();
    for start in 0..seen.len() {
        if labels.codes[start] != 1 || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut lesion = vec![start];
        let mut next = 0;
        while let Some(at) = lesion.get(next).copied() {
            next += 1;
            for neighbour in neighbours(at, labels.dims) {
                if labels.codes[neighbour] == 1 && !seen[neighbour] {
                    seen[neighbour] = true;
                    lesion.push(neighbour);
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "numbers of voxels are small")]
        if lesion.len() as f64 * voxel_mm3 >= LESION_MM3_MIN {
            all.push(lesion);
        }
    }
    all
}

/// The voxels around one (26 inside the grid) and itself.
fn neighbours(at: usize, dims: [usize; 3]) -> impl Iterator<Item = usize> {
    let [ni, nj, nk] = dims;
    let around = |n: usize, size: usize| n.saturating_sub(1)..(n + 2).min(size);
    let (i, j, k) = (at % ni, at / ni % nj, at / (ni * nj));
    around(k, nk).flat_map(move |k| {
        around(j, nj).flat_map(move |j| around(i, ni).map(move |i| i + ni * (j + nj * k)))
    })
}
