//! Shapes whose scores can be worked out by hand.

use super::*;

const IDENTITY: crate::volume::Affine = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
];

fn labels(dims: [usize; 3], code: impl Fn(usize, usize, usize) -> u8) -> Labels {
    let mut codes = Vec::new();
    for k in 0..dims[2] {
        for j in 0..dims[1] {
            for i in 0..dims[0] {
                codes.push(code(i, j, k));
            }
        }
    }
    Labels {
        dims,
        affine: IDENTITY,
        codes,
    }
}

/// A box of `code` from `i` = `from`, four voxels long, two wide and two high.
fn bar(from: usize, code: u8) -> Labels {
    labels([16, 8, 8], |i, j, k| {
        let inside = (from..from + 4).contains(&i) && (3..5).contains(&j) && (3..5).contains(&k);
        u8::from(inside) * code
    })
}

fn structure(scores: &[StructureScores], name: &str) -> StructureScores {
    let at = STRUCTURES.iter().position(|s| s.name == name).unwrap();
    scores[at]
}

#[test]
fn a_box_moved_by_one_voxel() {
    let scores = compare(&bar(4, 16), &bar(5, 16)).unwrap();
    let stem = structure(&scores, "brain_stem");
    // 3 of 4 slabs overlap.
    assert_eq!(stem.dice, Some(0.75));
    assert_eq!((stem.truth_mm3, stem.prediction_mm3), (16.0, 16.0));
    // Every voxel is on the surface; 4 of 16 have no counterpart, 1 mm away, both ways.
    assert_eq!(stem.surface_mean_mm, Some(0.25));
    assert_eq!(stem.surface_p95_mm, Some(1.0));
    assert_eq!(structure(&scores, "thalamus").dice, None);
}

#[test]
fn sides_are_averaged_and_white_matter_is_pooled() {
    let truth = labels([8, 4, 4], |i, _, _| [2, 2, 17, 17, 53, 53, 2, 2][i]);
    // The right hippocampus is missed.
    let prediction = labels([8, 4, 4], |i, _, _| [2, 2, 17, 17, 0, 0, 2, 2][i]);
    let scores = compare(&truth, &prediction).unwrap();
    let hippocampus = structure(&scores, "hippocampus");
    assert_eq!(hippocampus.dice, Some(0.5));
    assert_eq!(hippocampus.surface_mean_mm, None);
    assert_eq!(structure(&scores, "cerebral_wm").dice, Some(1.0));
    // A swapped side is no hit.
    let swapped = labels([8, 4, 4], |i, _, _| [2, 2, 53, 53, 17, 17, 2, 2][i]);
    let scores = compare(&truth, &swapped).unwrap();
    assert_eq!(structure(&scores, "hippocampus").dice, Some(0.0));
}

#[test]
fn distances_are_in_millimetres_and_exact() {
    let point = |at: [usize; 3]| labels([9, 9, 9], move |i, j, k| u8::from([i, j, k] == at) * 16);
    let (mut a, mut b) = (point([1, 1, 1]), point([4, 5, 1]));
    let got = surface_distance(&a, &b, 16).unwrap();
    assert_eq!((got.mean_mm, got.p95_mm), (5.0, 5.0));
    for labels in [&mut a, &mut b] {
        labels.affine[0][0] = -2.0;
    }
    let got = surface_distance(&a, &b, 16).unwrap();
    assert!((got.mean_mm - 52.0_f64.sqrt()).abs() < 1e-12);
}

#[test]
fn codes_of_both_schools_meet() {
    let fs = |v| Scheme::FreeSurfer.code(v);
    assert_eq!(
        [
            fs(251),
            fs(77),
            fs(41),
            fs(5),
            fs(24),
            fs(85),
            fs(53),
            fs(1000)
        ],
        [2, 2, 2, 4, 0, 0, 53, 0]
    );
    let nmm = |v| Scheme::Neuromorphometrics.code(v);
    assert_eq!(
        [
            nmm(48),
            nmm(101),
            nmm(100),
            nmm(72),
            nmm(44),
            nmm(207),
            nmm(1)
        ],
        [17, 3, 42, 8, 2, 3, 0]
    );
    // Every structure can be reached from both, and nothing outside of the counts' range.
    for scheme in [Scheme::FreeSurfer, Scheme::Neuromorphometrics] {
        let reached: Vec<u8> = (0..=300).map(|v| scheme.code(v)).collect();
        assert!(reached.iter().all(|c| *c < 64));
        for s in &STRUCTURES {
            assert!(s.codes.iter().all(|c| reached.contains(c)), "{}", s.name);
        }
    }
}

#[test]
fn another_grid_takes_the_nearest_voxel() {
    let fine = labels([8, 8, 8], |i, _, _| if i < 4 { 17 } else { 53 });
    let mut coarse = labels([4, 4, 4], |_, _, _| 0);
    // Twice as large, and turned round: its x runs from the right end of the other to the left.
    coarse.affine = [
        [-2.0, 0.0, 0.0, 7.0],
        [0.0, 2.0, 0.0, 0.0],
        [0.0, 0.0, 2.0, 0.0],
    ];
    let got = on_grid(fine.clone(), &coarse).unwrap();
    assert_eq!(&got.codes[..4], [53, 53, 17, 17]);
    coarse.affine[0][3] = 100.0;
    assert!(
        on_grid(fine.clone(), &coarse)
            .unwrap()
            .codes
            .iter()
            .all(|c| *c == 0)
    );
    assert_eq!(on_grid(fine.clone(), &fine).unwrap(), fine);
}

#[test]
fn lesions_are_counted_one_by_one() {
    let blob = |i: usize, from: usize| u8::from((from..from + 2).contains(&i));
    // Lesions at 0, 4 and 8; one is found, one invented.
    let truth = labels([16, 2, 2], |i, _, _| blob(i, 0) | blob(i, 4) | blob(i, 8));
    let prediction = labels([16, 2, 2], |i, _, _| blob(i, 1) | blob(i, 12));
    let got = lesion_scores(&truth, &prediction).unwrap();
    assert_eq!((got.found, got.missed, got.invented), (1, 2, 1));
    assert_eq!(got.f1, Some(2.0 / 5.0));
    assert_eq!(got.dice, Some(2.0 * 4.0 / (24.0 + 16.0)));
    // Two voxels are too small to be a lesion.
    let speck = labels([16, 2, 2], |i, j, k| u8::from(i == 14 && j == 0 && k < 2));
    let got = lesion_scores(&truth, &speck).unwrap();
    assert_eq!((got.invented, got.prediction_mm3), (0, 2.0));
    let nothing = labels([16, 2, 2], |_, _, _| 0);
    let got = lesion_scores(&nothing, &nothing).unwrap();
    assert_eq!((got.dice, got.f1), (None, None));
    assert!(lesion_scores(&truth, &bar(1, 1)).is_err());
}

/// Shrout and Fleiss (Psychological Bulletin 1979), table 2, judges 1 and 2: worked out by hand.
#[test]
fn agreement_of_two_raters() {
    let pairs = [
        (9.0, 2.0),
        (6.0, 1.0),
        (8.0, 4.0),
        (7.0, 1.0),
        (10.0, 5.0),
        (6.0, 2.0),
    ];
    let altman = bland_altman(&pairs).unwrap();
    assert!((altman.bias - -31.0 / 6.0).abs() < 1e-12);
    // Sums of squares: rows 23.417, columns 80.083, rest 3.417; so 4.683, 80.083, 0.683 a degree of freedom.
    let expected =
        (4.683_333 - 0.683_333) / (4.683_333 + 0.683_333 + 2.0 / 6.0 * (80.083_333 - 0.683_333));
    assert!((icc_agreement(&pairs).unwrap() - expected).abs() < 1e-5);
    let same = [(1.0, 1.0), (2.0, 2.0), (5.0, 5.0)];
    assert!((icc_agreement(&same).unwrap() - 1.0).abs() < 1e-12);
    assert!((correlation(&same).unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(
        (icc_agreement(&same[..1]), bland_altman(&same[..1])),
        (None, None)
    );
}

#[test]
fn a_bootstrap_surrounds_its_mean_and_repeats_itself() {
    let values: Vec<f64> = (0..40).map(|n| f64::from(n % 7)).collect();
    let got = bootstrap_mean(&values).unwrap();
    assert!(got.low < got.mean && got.mean < got.high && got.high - got.low < 1.6);
    assert_eq!(bootstrap_mean(&values), Some(got));
    assert_eq!(bootstrap_mean(&[]), None);
    let one = bootstrap_mean(&[3.0]).unwrap();
    assert_eq!((one.low, one.high), (3.0, 3.0));
}
