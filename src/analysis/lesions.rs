//! From a lesion probability and the structures around it to lesions, their sizes and regions.
//!
//! Regions follow the words of the 2017 criteria of Thompson et al. (Lancet Neurol 2018;17:162-173):
//! periventricular lesions abut a lateral ventricle, juxtacortical ones the cortex, infratentorial
//! ones lie in brain-stem or cerebellum. "Abut" means within the distances below.

use super::measurement::{Lesion, LesionRegion, Lesions, Region};
use crate::norms::structures::name_of;
use crate::volume::affine::{apply, compose, inverse};
use crate::volume::components::{neighbours, touching};
use crate::volume::measuring_grid::{GRID, Placement};

/// A voxel belongs to a lesion above this probability.
const LESION_FROM: f32 = 0.5;
/// Smaller ones are not counted, mm3: what is called a lesion is at least 3 mm long (Filippi et al., Brain
/// 2019;142:1858-1875), and of what we find below this size little is (docs/experiments.md).
const LESION_MM3_MIN: f64 = 14.0;
/// Part of a lesion that must lie in brain tissue: choroid plexus and flow lie in the ventricles.
const IN_TISSUE_MIN: f64 = 0.5;
/// How many voxels (about 1 mm) away a ventricle is still abutted, and the cortex.
const VENTRICLE_STEPS: usize = 2;
const CORTEX_STEPS: usize = 1;

/// Code of a white-matter lesion in a label map, and of the tissue it replaces.
pub const LESION_CODE: u8 = 77;
const WHITE_MATTER: [u8; 2] = [2, 41];
const CORTEX: [u8; 2] = [3, 42];
const LATERAL_VENTRICLES: [u8; 4] = [4, 43, 5, 44];
/// Background, ventricles and fluid.
const NO_TISSUE: [u8; 8] = [0, 4, 43, 5, 44, 14, 15, 24];
const INFRATENTORIAL: [u8; 5] = [7, 46, 8, 47, 16];

/// Lesions of one picture.
#[derive(Debug, Clone, Default)]
pub struct LesionMap {
    /// Probability; of what is not counted 0; z fastest. What is below the threshold stays, so that the edge
    /// of a lesion keeps its place when the map is interpolated.
    pub probability: Vec<f32>,
    /// 1 where there is a lesion, on the picture's own voxels (first axis fastest).
    pub on_picture: Vec<u8>,
    /// What was counted.
    pub lesions: Lesions,
}

/// Finds the lesions of a picture whose structures are `codes`. What is counted is seen on the picture's own voxels:
/// what lies between two thick slices is too little to be told.
#[must_use]
pub fn find(
    codes: &[u8],
    probability: &[f32],
    placement: &Placement,
    intracranial_mm3: f64,
) -> LesionMap {
    let voxel_mm3 = placement.voxel_mm3();
    let mut kept = probability.to_vec();
    let (likely, unlikely): (Vec<_>, Vec<_>) = touching(GRID, |at| probability[at] > LESION_FROM)
        .into_iter()
        .partition(|voxels| large_enough(voxels.len(), voxel_mm3) && is_in_tissue(codes, voxels));
    for at in unlikely.into_iter().flatten() {
        kept[at] = 0.0;
    }
    let on_picture = on_picture(&kept, placement);
    let seen = placement.around_input(|at| on_picture[at] == 1);
    let mut found = Vec::new();
    for voxels in likely {
        if voxels.iter().any(|at| seen[*at]) {
            #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
            let volume_mm3 = voxels.len() as f64 * voxel_mm3;
            found.push(Lesion {
                region: region(codes, &voxels),
                side: side(codes, &voxels),
                volume_mm3,
                centre_mm: apply(&placement.affine, centre(&voxels)),
            });
        } else {
            for at in voxels {
                kept[at] = 0.0;
            }
        }
    }
    LesionMap {
        probability: kept,
        on_picture,
        lesions: summed(found, intracranial_mm3),
    }
}

fn large_enough(voxels: usize, voxel_mm3: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
    let mm3 = voxels as f64 * voxel_mm3;
    mm3 >= LESION_MM3_MIN
}

#[expect(clippy::cast_precision_loss, reason = "counts of voxels")]
fn is_in_tissue(codes: &[u8], voxels: &[usize]) -> bool {
    let in_tissue = voxels.iter().filter(|at| !NO_TISSUE.contains(&codes[**at]));
    in_tissue.count() as f64 >= IN_TISSUE_MIN * voxels.len() as f64
}

/// Largest first; in all, by region and by side.
fn summed(mut found: Vec<Lesion>, intracranial_mm3: f64) -> Lesions {
    found.sort_by(|a, b| b.volume_mm3.total_cmp(&a.volume_mm3));
    let volume_mm3 = whole(found.iter());
    let of_region = |region: Region| {
        let there = || found.iter().filter(move |l| l.region == region);
        LesionRegion {
            region,
            count: there().count(),
            volume_mm3: whole(there()),
        }
    };
    let of_side = |side: &str| whole(found.iter().filter(|l| l.side.as_deref() == Some(side)));
    let percent_icv = if intracranial_mm3 > 0.0 {
        100.0 * volume_mm3 / intracranial_mm3
    } else {
        0.0
    };
    Lesions {
        count: found.len(),
        volume_mm3,
        left_mm3: of_side("left"),
        right_mm3: of_side("right"),
        percent_icv,
        regions: Region::ALL.map(of_region).to_vec(),
        lesions: {
            found.truncate(Lesions::LISTED_MAX);
            found
        },
    }
}

/// The lesions on the picture's own voxels (1 or 0, first axis fastest). On thick slices a lesion can fall to pieces:
/// those that are too small are left out there as well.
fn on_picture(probability: &[f32], placement: &Placement) -> Vec<u8> {
    let probability = placement.values_on_input(probability);
    let ([ni, nj, nk], voxel_mm3) = placement.input_voxels();
    let mut mask = vec![0; probability.len()];
    for voxels in touching([nk, nj, ni], |at| probability[at] > LESION_FROM) {
        if large_enough(voxels.len(), voxel_mm3) {
            for at in voxels {
                mask[at] = 1;
            }
        }
    }
    mask
}

/// mm3 of lesions; of none 0, where `sum` would give -0.
fn whole<'a>(lesions: impl Iterator<Item = &'a Lesion>) -> f64 {
    lesions.fold(0.0, |sum, lesion| sum + lesion.volume_mm3)
}

/// Marks lesions within white matter in a label map of another picture of the same person.
pub fn mark(codes: &mut [u8], placement: &Placement, lesions: &LesionMap, of: &Placement) {
    let same = placement == of;
    let map = inverse(&of.affine).map(|to_box| compose(&to_box, &placement.affine));
    let [_, ny, nz] = GRID;
    for at in 0..codes.len() {
        if !WHITE_MATTER.contains(&codes[at]) {
            continue;
        }
        let there = if same {
            Some(at)
        } else {
            let index = [at / (ny * nz), at / nz % ny, at % nz];
            map.as_ref()
                .and_then(|map| nearest(apply(map, float(index))))
        };
        if there.is_some_and(|there| lesions.probability[there] > LESION_FROM) {
            codes[at] = LESION_CODE;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "grid indices")]
fn float(index: [usize; 3]) -> [f64; 3] {
    index.map(|i| i as f64)
}

/// The voxel of the box nearest to a place in it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie inside the grid"
)]
fn nearest(place: [f64; 3]) -> Option<usize> {
    let mut index = 0;
    for (value, n) in place.into_iter().zip(GRID) {
        let whole = (value + 0.5).floor();
        if !(whole >= 0.0 && whole < n as f64) {
            return None;
        }
        index = index * n + whole as usize;
    }
    Some(index)
}

fn centre(voxels: &[usize]) -> [f64; 3] {
    let [_, ny, nz] = GRID;
    let mut sum = [0.0; 3];
    for at in voxels {
        for (s, i) in sum
            .iter_mut()
            .zip(float([at / (ny * nz), at / nz % ny, at % nz]))
        {
            *s += i;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
    let count = voxels.len().max(1) as f64;
    sum.map(|s| s / count)
}

fn region(codes: &[u8], voxels: &[usize]) -> Region {
    let below = voxels
        .iter()
        .filter(|at| INFRATENTORIAL.contains(&codes[**at]))
        .count();
    if 2 * below > voxels.len() {
        Region::Infratentorial
    } else if reaches(codes, voxels, &LATERAL_VENTRICLES, VENTRICLE_STEPS) {
        Region::Periventricular
    } else if reaches(codes, voxels, &CORTEX, CORTEX_STEPS) {
        Region::Juxtacortical
    } else {
        Region::Deep
    }
}

/// Whether one of `wanted` lies within so many steps of the voxels, or under them.
fn reaches(codes: &[u8], voxels: &[usize], wanted: &[u8], steps: usize) -> bool {
    let mut rim = voxels.to_vec();
    for _ in 0..steps {
        let mut next: Vec<usize> = rim.iter().flat_map(|at| neighbours(*at, GRID)).collect();
        next.sort_unstable();
        next.dedup();
        if next.iter().any(|at| wanted.contains(&codes[*at])) {
            return true;
        }
        rim = next;
    }
    false
}

fn side(codes: &[u8], voxels: &[usize]) -> Option<String> {
    let mut counts = [0_usize; 2];
    for at in voxels {
        let name = name_of(i64::from(codes[*at])).unwrap_or_default();
        counts[0] += usize::from(name.starts_with("left "));
        counts[1] += usize::from(name.starts_with("right "));
    }
    match counts {
        [left, right] if left > right => Some("left".into()),
        [left, right] if right > left => Some("right".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::affine::IDENTITY;
    use crate::volume::measuring_grid::Brain;
    use crate::volume::{Affine, Volume};

    fn at(x: usize, y: usize, z: usize) -> usize {
        (x * GRID[1] + y) * GRID[2] + z
    }

    /// Of a picture whose voxels are the box's.
    fn placement() -> Placement {
        placement_of(GRID, placement_of(GRID, IDENTITY).affine)
    }

    fn placement_of(dims: [usize; 3], affine: Affine) -> Placement {
        let volume = Volume {
            dims,
            affine,
            data: vec![1.0; dims.iter().product()],
        };
        let labels = vec![1; 80 * 96 * 80];
        let mut affine = IDENTITY.map(|row| row.map(|v| v * 2.0));
        for row in &mut affine {
            row[3] = 0.5;
        }
        let brain = Brain {
            labels: &labels,
            codes: &[0, 2],
            dims: [80, 96, 80],
            affine,
        };
        Placement::new(&volume, &brain).unwrap()
    }

    /// White matter on both sides, a ventricle in the middle, cortex outside, cerebellum below.
    fn codes() -> Vec<u8> {
        let mut codes = vec![0; GRID.iter().product()];
        for x in 20..140 {
            for y in 30..160 {
                for z in 10..150 {
                    let left = x < 80;
                    codes[at(x, y, z)] = match (x, z) {
                        (_, 10..40) => [47, 8][usize::from(left)],
                        (70..90, _) => [43, 4][usize::from(left)],
                        (20..26 | 134..140, _) => [42, 3][usize::from(left)],
                        _ => [41, 2][usize::from(left)],
                    };
                }
            }
        }
        codes
    }

    /// Lesions of 3 x 3 x 3 voxels around these middles.
    fn found(middles: &[[usize; 3]]) -> Lesions {
        let mut probability = vec![0.0; GRID.iter().product()];
        for [x, y, z] in middles {
            for (dx, dy, dz) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
                probability[at(x + dx - 1, y + dy - 1, z + dz - 1)] = 0.9;
            }
        }
        find(&codes(), &probability, &placement(), 1e6).lesions
    }

    #[track_caller]
    fn check(middle: [usize; 3], region: Region, side: Option<&str>) {
        let lesions = found(&[middle]);
        assert_eq!(lesions.count, 1);
        assert_eq!(lesions.lesions[0].region, region);
        assert_eq!(lesions.lesions[0].side.as_deref(), side);
        let left = if side == Some("left") { 27.0 } else { 0.0 };
        let right = if side == Some("right") { 27.0 } else { 0.0 };
        assert_eq!([lesions.left_mm3, lesions.right_mm3], [left, right]);
        assert!((lesions.volume_mm3 - 27.0).abs() < 1e-9);
    }

    #[test]
    fn regions_and_sides() {
        check([50, 90, 90], Region::Deep, Some("left"));
        check([110, 90, 90], Region::Deep, Some("right"));
        check([67, 90, 90], Region::Periventricular, Some("left"));
        check([65, 90, 90], Region::Deep, Some("left"));
        check([27, 90, 90], Region::Juxtacortical, Some("left"));
        check([132, 90, 90], Region::Juxtacortical, Some("right"));
        check([50, 90, 20], Region::Infratentorial, Some("left"));
    }

    #[test]
    fn what_lies_in_a_ventricle_is_no_lesion() {
        assert_eq!(found(&[[80, 90, 90]]).count, 0);
        let both = found(&[[50, 90, 90], [110, 90, 90], [80, 90, 90]]);
        assert_eq!(both.count, 2);
        assert_eq!(both.regions.iter().map(|r| r.count).sum::<usize>(), 2);
        assert!((both.percent_icv - 100.0 * 54.0 / 1e6).abs() < 1e-12);
    }

    #[test]
    fn a_speck_is_not_counted() {
        let mut probability = vec![0.0; GRID.iter().product()];
        probability[at(50, 90, 90)] = 0.9;
        probability[at(51, 90, 90)] = 0.9;
        let map = find(&codes(), &probability, &placement(), 1e6);
        assert_eq!(map.lesions.count, 0);
        assert!(map.probability.iter().all(|p| *p == 0.0));
    }

    #[test]
    fn what_thick_slices_do_not_show_is_not_counted() {
        let codes = codes();
        let mut slices_of_8_mm = IDENTITY;
        slices_of_8_mm[2][2] = 8.0;
        let place = placement_of([GRID[0], GRID[1], 20], slices_of_8_mm);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in the box"
        )]
        let slice = (88.0 - place.affine[2][3]).round() as usize;
        let [seen, between] = [slice, slice + 4].map(|middle| {
            let mut probability = vec![0.0; codes.len()];
            for (dx, dy, dz) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
                probability[at(49 + dx, 89 + dy, middle - 1 + dz)] = 0.9;
            }
            find(&codes, &probability, &place, 1e6)
        });
        assert_eq!(seen.lesions.count, 1);
        assert!(seen.on_picture.contains(&1));
        assert_eq!(between.lesions.count, 0);
        assert!(between.lesions.volume_mm3.abs() < 1e-9);
        assert!(between.probability.iter().all(|p| *p == 0.0));
        assert!(between.on_picture.iter().all(|m| *m == 0));
    }

    #[test]
    fn the_edge_of_a_lesion_keeps_its_place() {
        let mut probability = vec![0.0; GRID.iter().product()];
        for x in 40..70 {
            probability[at(x, 90, 90)] = if x < 50 { 0.4 } else { 0.9 };
        }
        let map = find(&codes(), &probability, &placement(), 1e6);
        assert_eq!(map.lesions.count, 1);
        assert_eq!(map.probability, probability);
    }

    #[test]
    fn pieces_that_are_too_small_are_left_out_on_the_picture() {
        let mut probability = vec![0.0; GRID.iter().product()];
        for (first, size) in [(50, 4), (100, 2)] {
            for x in first..first + size {
                for y in 90..90 + size {
                    for z in 90..90 + size {
                        probability[at(x, y, z)] = 0.9;
                    }
                }
            }
        }
        let mask = on_picture(&probability, &placement());
        let marked: usize = mask.iter().map(|m| usize::from(*m)).sum();
        let [ni, nj, nk] = GRID;
        assert_eq!(touching([nk, nj, ni], |at| mask[at] == 1).len(), 1);
        assert_eq!(marked, 64);
    }

    #[test]
    fn lesions_are_marked_within_white_matter_only() {
        let mut codes = codes();
        let (before, place) = (codes.clone(), placement());
        let mut probability = vec![0.0; codes.len()];
        for x in 22..31 {
            for y in 80..85 {
                probability[at(x, y, 90)] = 0.9;
            }
        }
        let map = find(&codes, &probability, &place, 1e6);
        mark(&mut codes, &place, &map, &place);
        for (n, (code, old)) in codes.iter().zip(&before).enumerate() {
            let lesion = probability[n] > 0.5 && WHITE_MATTER.contains(old);
            assert_eq!(*code, if lesion { LESION_CODE } else { *old });
        }
    }
}
