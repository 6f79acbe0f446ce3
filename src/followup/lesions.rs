//! Lesions of two scans, matched in space: what is new, what grew.
//!
//! Thresholds are our own choice, wide enough for what the segmentation misses at a lesion's edge;
//! no published criterion is claimed.

use serde::{Deserialize, Serialize};

use super::LabelMap;
use super::register::Registration;
use crate::analysis::{Lesions, Region};
use crate::volume::affine::{Vector, apply, compose, determinant, inverse, length, subtract};
use crate::volume::components::touching;

/// Lesions whose edges are no further apart are the same, mm.
const MATCH_MM: f64 = 2.0;
/// Smaller lesions are not called new, mm3.
const NEW_MM3_MIN: f64 = 15.0;
/// A lesion that grew to so many times its volume ...
const GREW_TIMES: f64 = 1.5;
/// ... and by at least so much is enlarged, mm3; the same the other way is smaller.
const GREW_MM3_MIN: f64 = 50.0;
/// Part of a lesion that the other picture must cover.
const COVERED_MIN: f64 = 0.9;
/// New and enlarged ones that are listed one by one, of each.
const LISTED_MAX: usize = 100;
/// A listed lesion of the measurement whose middle is no further away is the same, mm.
const SAME_MIDDLE_MM: f64 = 3.0;

/// What became of the lesions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LesionChange {
    /// Lesions of the present scan without one there before; the largest first.
    pub new: Vec<ChangedLesion>,
    /// How many, also those that are not listed.
    pub new_count: usize,
    /// Lesions that grew; the most first.
    pub enlarged: Vec<ChangedLesion>,
    /// How many, also those that are not listed.
    pub enlarged_count: usize,
    /// Groups of lesions that shrank.
    pub smaller_count: usize,
    /// Neither.
    pub stable_count: usize,
    /// Earlier lesions of which nothing is marked any more.
    pub gone_count: usize,
    /// Lesions that the other picture does not cover.
    pub not_covered_count: usize,
    /// All lesions of the earlier picture, mm3.
    pub prior_mm3: f64,
    /// All lesions of the present picture, mm3.
    pub present_mm3: f64,
    /// How well the heads fit, root mean square, mm.
    pub registration_mm: f64,
}

/// A lesion that is new or grew. Lesions that flowed together count as one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangedLesion {
    /// Its middle in the present picture, RAS mm.
    pub centre_mm: [f64; 3],
    /// Before, mm3; 0 for a new one.
    pub prior_mm3: f64,
    /// Now, mm3.
    pub present_mm3: f64,
    /// Where it lies, as measured.
    pub region: Option<Region>,
    /// left or right, as measured.
    pub side: Option<String>,
}

/// Matches the lesions of two pictures; `measured` names where those of the present one lie.
/// `None` where a picture has no place in space.
#[must_use]
pub fn compare(
    present: &LabelMap,
    prior: &LabelMap,
    registration: &Registration,
    measured: Option<&Lesions>,
) -> Option<LesionChange> {
    let (here, there) = (Spots::of(present), Spots::of(prior));
    let forth = compose(
        &inverse(&prior.affine)?,
        &compose(&registration.to_prior, &present.affine),
    );
    let back = inverse(&forth)?;
    let near = steps_within(&prior.affine, MATCH_MM);
    // Which earlier lesions each present one reaches.
    let mut groups = Groups::new(here.all.len() + there.all.len());
    let mut covered = Vec::with_capacity(here.all.len());
    for (n, voxels) in here.all.iter().enumerate() {
        let mut inside = 0_usize;
        for at in voxels {
            let place = apply(&forth, index_of(*at, present.dims));
            let Some(middle) = nearest(place, prior.dims) else {
                continue;
            };
            inside += 1;
            for step in &near {
                let reached = shifted(middle, *step, prior.dims);
                if let Some(m) = reached.and_then(|at| there.of_voxel(at)) {
                    groups.join(n, here.all.len() + m);
                }
            }
        }
        covered.push(inside as f64 >= COVERED_MIN * voxels.len() as f64);
    }
    let mut change = LesionChange {
        prior_mm3: there.whole_mm3(),
        present_mm3: here.whole_mm3(),
        registration_mm: registration.rms_mm,
        ..LesionChange::default()
    };
    for group in groups.all() {
        let (now, before): (Vec<usize>, Vec<usize>) =
            group.into_iter().partition(|n| *n < here.all.len());
        let before: Vec<usize> = before.iter().map(|n| n - here.all.len()).collect();
        let prior_mm3 = there.mm3(&before);
        let present_mm3 = here.mm3(&now);
        match (now.first(), before.first()) {
            (Some(first), None) if !covered[*first] => change.not_covered_count += 1,
            (Some(_), None) if present_mm3 < NEW_MM3_MIN => change.stable_count += 1,
            (Some(_), None) => {
                change.new_count += 1;
                let lesion = here.changed(&now, prior_mm3, present_mm3, &present.affine, measured);
                change.new.push(lesion);
            }
            (None, Some(first)) => {
                let seen = there.all[*first].iter().filter(|at| {
                    nearest(apply(&back, index_of(**at, prior.dims)), present.dims).is_some()
                });
                let seen = seen.count() as f64 >= COVERED_MIN * there.all[*first].len() as f64;
                let count = if seen {
                    &mut change.gone_count
                } else {
                    &mut change.not_covered_count
                };
                *count += 1;
            }
            _ if grew(prior_mm3, present_mm3) => {
                change.enlarged_count += 1;
                let lesion = here.changed(&now, prior_mm3, present_mm3, &present.affine, measured);
                change.enlarged.push(lesion);
            }
            _ if grew(present_mm3, prior_mm3) => change.smaller_count += 1,
            _ => change.stable_count += 1,
        }
    }
    for list in [&mut change.new, &mut change.enlarged] {
        list.sort_by(|a, b| {
            let growth = |l: &ChangedLesion| l.present_mm3 - l.prior_mm3;
            growth(b).total_cmp(&growth(a))
        });
        list.truncate(LISTED_MAX);
    }
    Some(change)
}

fn grew(before_mm3: f64, now_mm3: f64) -> bool {
    now_mm3 >= GREW_TIMES * before_mm3 && now_mm3 - before_mm3 >= GREW_MM3_MIN
}

/// The lesions of a picture.
struct Spots {
    dims: [usize; 3],
    voxel_mm3: f64,
    /// Voxels of each.
    all: Vec<Vec<usize>>,
    /// Voxels with the number of their lesion, in order.
    owners: Vec<(usize, usize)>,
}

impl Spots {
    fn of(map: &LabelMap) -> Self {
        let [nx, ny, nz] = map.dims;
        // Voxels here have x fastest, which is z fastest of the grid turned round.
        let all = touching([nz, ny, nx], |at| map.codes[at] != 0);
        let mut owners: Vec<(usize, usize)> = all
            .iter()
            .enumerate()
            .flat_map(|(n, voxels)| voxels.iter().map(move |at| (*at, n)))
            .collect();
        owners.sort_unstable();
        Self {
            dims: map.dims,
            voxel_mm3: determinant(&map.affine).abs(),
            all,
            owners,
        }
    }

    fn of_voxel(&self, at: usize) -> Option<usize> {
        let found = self.owners.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        Some(self.owners[found].1)
    }

    fn mm3(&self, which: &[usize]) -> f64 {
        let voxels: usize = which.iter().map(|n| self.all[*n].len()).sum();
        voxels as f64 * self.voxel_mm3
    }

    fn whole_mm3(&self) -> f64 {
        self.owners.len() as f64 * self.voxel_mm3
    }

    fn changed(
        &self,
        which: &[usize],
        prior_mm3: f64,
        present_mm3: f64,
        affine: &crate::volume::Affine,
        measured: Option<&Lesions>,
    ) -> ChangedLesion {
        let largest = which.iter().max_by_key(|n| self.all[**n].len());
        let voxels = largest.map_or(&[][..], |n| &self.all[*n]);
        let mut sum = [0.0; 3];
        for at in voxels {
            for (s, i) in sum.iter_mut().zip(index_of(*at, self.dims)) {
                *s += i / voxels.len() as f64;
            }
        }
        let centre_mm = apply(affine, sum);
        let listed = measured.map_or(&[][..], |m| &m.lesions);
        let distance = |middle: Vector| length(subtract(middle, centre_mm));
        let same = listed
            .iter()
            .min_by(|a, b| distance(a.centre_mm).total_cmp(&distance(b.centre_mm)))
            .filter(|l| distance(l.centre_mm) <= SAME_MIDDLE_MM);
        ChangedLesion {
            centre_mm,
            prior_mm3,
            present_mm3,
            region: same.map(|l| l.region),
            side: same.and_then(|l| l.side.clone()),
        }
    }
}

/// Sets that are joined.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut n: usize) -> usize {
        while self.0[n] != n {
            self.0[n] = self.0[self.0[n]];
            n = self.0[n];
        }
        n
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }

    /// Members of each, the first ones first.
    fn all(&mut self) -> Vec<Vec<usize>> {
        let mut groups = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for n in 0..self.0.len() {
            groups.entry(self.root(n)).or_default().push(n);
        }
        groups.into_values().collect()
    }
}

fn index_of(at: usize, [nx, ny, _]: [usize; 3]) -> Vector {
    [at % nx, at / nx % ny, at / (nx * ny)].map(|i| i as f64)
}

/// Steps from a voxel to those whose middles lie within so many mm, none included.
fn steps_within(affine: &crate::volume::Affine, mm: f64) -> Vec<[i64; 3]> {
    // A voxel of the measuring networks is never much finer than this.
    const STEPS_MAX: i64 = 4;
    let range = -STEPS_MAX..=STEPS_MAX;
    let origin = apply(affine, [0.0; 3]);
    let mut steps = Vec::new();
    for x in range.clone() {
        for y in range.clone() {
            for z in range.clone() {
                #[expect(clippy::cast_precision_loss, reason = "at most four")]
                let place = [x as f64, y as f64, z as f64];
                if length(subtract(apply(affine, place), origin)) <= mm + 1e-9 {
                    steps.push([x, y, z]);
                }
            }
        }
    }
    steps
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie inside the grid"
)]
pub(super) fn nearest(place: Vector, dims: [usize; 3]) -> Option<[usize; 3]> {
    let mut index = [0; 3];
    for ((i, value), n) in index.iter_mut().zip(place).zip(dims) {
        let whole = (value + 0.5).floor();
        if !(whole >= 0.0 && whole < n as f64) {
            return None;
        }
        *i = whole as usize;
    }
    Some(index)
}

fn shifted(from: [usize; 3], step: [i64; 3], dims: [usize; 3]) -> Option<usize> {
    let mut index = [0; 3];
    for axis in 0..3 {
        let moved = i64::try_from(from[axis]).ok()? + step[axis];
        index[axis] = usize::try_from(moved).ok().filter(|i| *i < dims[axis])?;
    }
    Some((index[2] * dims[1] + index[1]) * dims[0] + index[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Lesion;
    use crate::followup::register::register;
    use crate::followup::scenes::{moved, scene, still};

    const OLD: (Vector, i32) = ([10.0, 10.0, 10.0], 2);

    fn counts(c: &LesionChange) -> [usize; 6] {
        [
            c.new_count,
            c.enlarged_count,
            c.smaller_count,
            c.stable_count,
            c.gone_count,
            c.not_covered_count,
        ]
    }

    #[track_caller]
    fn check(now: &[(Vector, i32)], before: &[(Vector, i32)], want: [usize; 6]) -> LesionChange {
        let (now, before) = (scene(now), scene(before));
        let change = compare(&now.lesions, &before.lesions, &still(), None).unwrap();
        assert_eq!(counts(&change), want, "{change:?}");
        change
    }

    #[test]
    fn new_grown_smaller_stable_and_gone() {
        check(&[OLD], &[OLD], [0, 0, 0, 1, 0, 0]);
        let new = check(&[OLD, ([-20.0, 0.0, 0.0], 1)], &[OLD], [1, 0, 0, 1, 0, 0]);
        assert!(length(subtract(new.new[0].centre_mm, [-20.0, 0.0, 0.0])) < 1e-9);
        assert!((new.new[0].present_mm3 - 27.0).abs() < 1e-9);
        assert!((new.prior_mm3 - 125.0).abs() < 1e-9);
        let grown = check(&[(OLD.0, 3)], &[OLD], [0, 1, 0, 0, 0, 0]);
        assert!((grown.enlarged[0].present_mm3 - 343.0).abs() < 1e-9);
        assert!((grown.enlarged[0].prior_mm3 - 125.0).abs() < 1e-9);
        check(&[OLD], &[(OLD.0, 3)], [0, 0, 1, 0, 0, 0]);
        check(&[], &[OLD], [0, 0, 0, 0, 1, 0]);
        check(&[], &[], [0; 6]);
    }

    #[test]
    fn a_shift_of_two_millimetres_is_the_same_lesion_and_a_speck_is_not_new() {
        let beside = ([10.0, 10.0, 16.0], 2);
        check(&[OLD], &[beside], [0, 0, 0, 1, 0, 0]);
        let further = ([10.0, 10.0, 17.0], 2);
        check(&[OLD], &[further], [1, 0, 0, 0, 1, 0]);
        check(&[([0.0, 0.0, 0.0], 0)], &[], [0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn lesions_that_flowed_together_are_one() {
        let two = [([0.0, 0.0, 0.0], 2), ([8.0, 0.0, 0.0], 2)];
        let one = [([4.0, 0.0, 0.0], 6)];
        let change = check(&one, &two, [0, 1, 0, 0, 0, 0]);
        assert!((change.enlarged[0].prior_mm3 - 250.0).abs() < 1e-9);
    }

    #[test]
    fn what_the_other_picture_does_not_cover_is_not_new() {
        let (now, mut before) = (scene(&[([0.0, 0.0, 26.0], 2)]), scene(&[]));
        before.lesions.dims[2] = 50;
        before.lesions.codes.truncate(64 * 64 * 50);
        let change = compare(&now.lesions, &before.lesions, &still(), None).unwrap();
        assert_eq!(counts(&change), [0, 0, 0, 0, 0, 1]);
        let other = compare(&before.lesions, &now.lesions, &still(), None).unwrap();
        assert_eq!(counts(&other), [0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_head_that_lies_otherwise_is_registered_first() {
        let movement = moved(0.2, [6.0, -4.0, 3.0]);
        let old = [([10.0, 12.0, -6.0], 2), ([-14.0, 2.0, 8.0], 2)];
        let before = scene(&old).seen_after(&movement);
        let now = scene(&[old[0], old[1], ([-12.0, -14.0, 0.0], 2)]);
        let registration = register(&now.map, &before.map).unwrap();
        let change = compare(&now.lesions, &before.lesions, &registration, None).unwrap();
        assert_eq!(counts(&change), [1, 0, 0, 2, 0, 0]);
        let unregistered = compare(&now.lesions, &before.lesions, &still(), None).unwrap();
        assert_ne!(counts(&unregistered), counts(&change));
    }

    #[test]
    fn region_and_side_are_those_measured() {
        let (now, before) = (scene(&[([-20.0, 0.0, 0.0], 2)]), scene(&[]));
        let measured = Lesions {
            lesions: vec![Lesion {
                region: Region::Periventricular,
                side: Some("left".into()),
                volume_mm3: 125.0,
                centre_mm: [-20.0, 1.0, 0.0],
            }],
            ..Lesions::default()
        };
        let change = compare(&now.lesions, &before.lesions, &still(), Some(&measured)).unwrap();
        assert_eq!(change.new[0].side.as_deref(), Some("left"));
        assert_eq!(change.new[0].region, Some(Region::Periventricular));
    }
}
