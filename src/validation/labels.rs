//! Label maps of different schools on one set of codes, and on one grid.

use crate::volume::affine::{apply, compose, inverse};
use crate::volume::{Affine, Volume};

/// Whose codes a label map has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// FreeSurfer's `aseg` codes, ours among them.
    FreeSurfer,
    /// Neuromorphometrics (MICCAI 2012 multi-atlas challenge).
    Neuromorphometrics,
    /// Anything above 0 is a lesion.
    Lesion,
}

impl Scheme {
    /// Reads what the command line writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "freesurfer" => Some(Self::FreeSurfer),
            "neuromorphometrics" => Some(Self::Neuromorphometrics),
            "lesion" => Some(Self::Lesion),
            _ => None,
        }
    }

    /// The code of [`STRUCTURES`] for a code of this scheme; 0 for everything else.
    #[must_use]
    pub fn code(self, value: u16) -> u8 {
        match self {
            Self::Lesion => u8::from(value > 0),
            Self::FreeSurfer => freesurfer(value),
            Self::Neuromorphometrics => neuromorphometrics(value),
        }
    }
}

/// One structure of every Dice table.
#[derive(Debug, Clone, Copy)]
pub struct Structure {
    /// Name in tables.
    pub name: &'static str,
    /// Left and right, or the one code there is.
    pub codes: &'static [u8],
}

/// The 16 structures. Cerebral white matter has its sides pooled (41 counts as 2), because the corpus
/// callosum is not sided in every reference.
pub const STRUCTURES: [Structure; 16] = {
    const fn s(name: &'static str, codes: &'static [u8]) -> Structure {
        Structure { name, codes }
    }
    [
        s("cerebral_wm", &[2]),
        s("cortex", &[3, 42]),
        s("lateral_ventricle", &[4, 43]),
        s("cerebellum_wm", &[7, 46]),
        s("cerebellum_cortex", &[8, 47]),
        s("thalamus", &[10, 49]),
        s("caudate", &[11, 50]),
        s("putamen", &[12, 51]),
        s("pallidum", &[13, 52]),
        s("hippocampus", &[17, 53]),
        s("amygdala", &[18, 54]),
        s("accumbens", &[26, 58]),
        s("ventral_dc", &[28, 60]),
        s("third_ventricle", &[14]),
        s("fourth_ventricle", &[15]),
        s("brain_stem", &[16]),
    ]
};

fn freesurfer(value: u16) -> u8 {
    match value {
        2 | 30 | 41 | 62 | 77..=79 | 251..=255 => 2,
        4 | 5 | 31 => 4,
        43 | 44 | 63 => 43,
        3 | 7 | 8 | 10..=18 | 26 | 28 | 42 | 46 | 47 | 49..=54 | 58 | 60 => low_byte(value),
        _ => 0,
    }
}

fn neuromorphometrics(value: u16) -> u8 {
    match value {
        4 => 14,
        11 => 15,
        23 => 58,
        30 => 26,
        31 => 54,
        32 => 18,
        35 => 16,
        36 => 50,
        37 => 11,
        38 => 47,
        39 | 71..=73 => 8,
        40 => 46,
        41 => 7,
        44 | 45 => 2,
        47 => 53,
        48 => 17,
        49 | 51 => 43,
        50 | 52 => 4,
        55 => 52,
        56 => 13,
        57 => 51,
        58 => 12,
        59 => 49,
        60 => 10,
        61 => 60,
        62 => 28,
        100.. => {
            if value % 2 == 1 {
                3
            } else {
                42
            }
        }
        _ => 0,
    }
}

fn low_byte(value: u16) -> u8 {
    value.to_le_bytes()[0]
}

/// A label map with the codes of [`STRUCTURES`].
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// Voxels along i, j, k.
    pub dims: [usize; 3],
    /// Voxel to RAS+ mm.
    pub affine: Affine,
    /// Codes below 64, in Fortran order.
    pub codes: Vec<u8>,
}

impl Labels {
    /// Takes a label map; values are rounded.
    #[must_use]
    pub fn new(volume: &Volume, scheme: Scheme) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the range of the type first"
        )]
        let code = |v: &f32| scheme.code(v.round().clamp(0.0, 65_535.0) as u16);
        Self {
            dims: volume.dims,
            affine: volume.affine,
            codes: volume.data.iter().map(code).collect(),
        }
    }

    /// Position of a voxel in `codes`.
    #[must_use]
    pub fn at(&self, i: usize, j: usize, k: usize) -> usize {
        i + self.dims[0] * (j + self.dims[1] * k)
    }
}

/// `labels` on the grid of `reference`, each voxel taking the nearest one's code, 0 outside.
///
/// # Errors
/// When the affine of `labels` cannot be inverted.
pub fn on_grid(labels: Labels, reference: &Labels) -> Result<Labels, String> {
    let same = labels.dims == reference.dims
        && (labels.affine.iter().flatten())
            .zip(reference.affine.iter().flatten())
            .all(|(a, b)| (a - b).abs() < 1e-3);
    if same {
        return Ok(labels);
    }
    let to_voxels = inverse(&labels.affine).ok_or("its affine cannot be inverted")?;
    let map = compose(&to_voxels, &reference.affine);
    let [ni, nj, nk] = reference.dims;
    let mut codes = Vec::with_capacity(ni * nj * nk);
    for k in 0..nk {
        for j in 0..nj {
            for i in 0..ni {
                #[expect(clippy::cast_precision_loss, reason = "voxel numbers are small")]
                let point = apply(&map, [i as f64, j as f64, k as f64]);
                codes.push(nearest(&labels, point));
            }
        }
    }
    Ok(Labels {
        dims: reference.dims,
        affine: reference.affine,
        codes,
    })
}

fn nearest(labels: &Labels, point: [f64; 3]) -> u8 {
    let mut place = [0; 3];
    for axis in 0..3 {
        let rounded = point[axis].round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "checked to be inside the grid"
        )]
        if rounded >= 0.0 && rounded < labels.dims[axis] as f64 {
            place[axis] = rounded as usize;
        } else {
            return 0;
        }
    }
    labels.codes[labels.at(place[0], place[1], place[2])]
}
