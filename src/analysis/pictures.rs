//! Three planes through what matters, as PNG, with the abnormality map as a layer of its own.
//!
//! Pictures are 1 mm a pixel in radiological convention: the patient's right is on the left.

use std::io;
use std::path::Path;

use super::screening::Screened;
use crate::volume::affine::{apply, inverse};
use crate::volume::{Affine, Volume};

/// Planes that are drawn.
pub const PLANES: [&str; 3] = ["axial", "coronal", "sagittal"];
/// Share of the brightest pixels that may saturate.
const WHITE_RANK: f64 = 0.995;
/// The map's probability from which tissue is tinted, and from which it is outlined.
const TINT_FROM: f32 = 0.3;
const OUTLINE_FROM: f32 = 0.5;
/// Orange that stays visible on grey in the dark and for colour-blind readers.
const TINT: [u8; 3] = [255, 140, 0];

/// Structures that are outlined together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Stable name.
    pub name: &'static str,
    /// Colour of the line.
    pub rgb: [u8; 3],
    /// FreeSurfer codes.
    pub codes: &'static [i64],
}

/// What is outlined, lowest first.
pub const OUTLINES: [Outline; 4] = [
    Outline {
        name: "deep grey",
        rgb: [150, 205, 90],
        codes: &[10, 11, 12, 13, 26, 49, 50, 51, 52, 58],
    },
    Outline {
        name: "ventricles",
        rgb: [70, 190, 250],
        codes: &[4, 5, 14, 15, 43, 44],
    },
    Outline {
        name: "hippocampus",
        rgb: [245, 110, 190],
        codes: &[17, 18, 53, 54],
    },
    Outline {
        name: "lesions",
        rgb: [255, 80, 60],
        codes: &[77],
    },
];

/// A plane: how many pixels, and where each lies in RAS mm.
struct Plane {
    width: usize,
    height: usize,
    at: fn([f64; 3], [f64; 3], f64, f64) -> [f64; 3],
}

const fn plane(name: usize, extent: [usize; 3]) -> Plane {
    let [x, y, z] = extent;
    match name {
        0 => Plane {
            width: x,
            height: y,
            at: |hi, f, c, r| [hi[0] - c, hi[1] - r, f[2]],
        },
        1 => Plane {
            width: x,
            height: z,
            at: |hi, f, c, r| [hi[0] - c, f[1], hi[2] - r],
        },
        _ => Plane {
            width: y,
            height: z,
            at: |hi, f, c, r| [f[0], hi[1] - c, hi[2] - r],
        },
    }
}

/// Draws `PLANE.png`, `PLANE_outline.png` (structures, [`OUTLINES`]) and `PLANE_overlay.png` (the
/// abnormality map), of the same size and transparent where there is nothing to show,
/// through `focus_mm`, or through the middle of the brain, and gives the planes drawn. Where there
/// is a focus, `PLANE_middle.png` and `PLANE_middle_outline.png` go through the middle as well.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(
    folder: &Path,
    volume: &Volume,
    screened: &Screened,
    codes: &[i64],
    focus_mm: Option<[f64; 3]>,
) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let focus = focus_mm.unwrap_or_else(|| middle(screened));
    let extent_mm = screened.dims.map(|n| n * 2);
    #[expect(clippy::cast_precision_loss, reason = "grid indices")]
    let last = screened.dims.map(|n| (n - 1) as f64);
    let high = apply(&screened.affine, last);
    let map = Field::of(screened, &screened.abnormality);
    let masks = OUTLINES.map(|outline| mask(screened, codes, outline.codes));
    let image = Field::of_volume(volume);
    let mut drawn = Vec::new();
    let mut views = vec![("", focus)];
    if focus_mm.is_some() {
        views.push(("_middle", middle(screened)));
    }
    for (i, name) in PLANES.iter().enumerate() {
        let plane = plane(i, extent_mm);
        for (view, focus) in &views {
            let grey = sample(&plane, high, *focus, &image);
            let file = format!("{name}{view}.png");
            write(
                folder,
                &file,
                &plane,
                png::ColorType::Grayscale,
                &greys(&grey),
            )?;
            let lines = outlines(&plane, high, *focus, screened, &masks);
            let file = format!("{name}{view}_outline.png");
            write(folder, &file, &plane, png::ColorType::Rgba, &lines)?;
        }
        // Without a region that counts the map is not shown: it marks some healthy tissue too.
        let tint = match focus_mm {
            Some(_) => sample(&plane, high, focus, &map),
            None => vec![0.0; plane.width * plane.height],
        };
        let layer = overlay(&tint, plane.width);
        let file = format!("{name}_overlay.png");
        write(folder, &file, &plane, png::ColorType::Rgba, &layer)?;
        drawn.push((*name).to_owned());
    }
    Ok(drawn)
}

/// Centre of everything the network labelled, RAS mm.
fn middle(screened: &Screened) -> [f64; 3] {
    let [_, ny, nz] = screened.dims;
    let (mut sum, mut n) = ([0.0_f64; 3], 0.0_f64);
    for (at, _) in screened
        .labels
        .iter()
        .enumerate()
        .filter(|(_, label)| **label != 0)
    {
        #[expect(clippy::cast_precision_loss, reason = "grid indices")]
        for (s, i) in sum.iter_mut().zip([at / (ny * nz), at / nz % ny, at % nz]) {
            *s += i as f64;
        }
        n += 1.0;
    }
    let index = if n > 0.0 {
        sum.map(|s| s / n)
    } else {
        #[expect(clippy::cast_precision_loss, reason = "grid indices")]
        screened.dims.map(|d| d as f64 / 2.0)
    };
    apply(&screened.affine, index)
}

/// Something that has a value at every place.
struct Field<'a> {
    data: &'a [f32],
    dims: [usize; 3],
    strides: [usize; 3],
    to_index: Option<Affine>,
}

impl<'a> Field<'a> {
    fn of_volume(volume: &'a Volume) -> Self {
        let [x, y, _] = volume.dims;
        Self {
            data: &volume.data,
            dims: volume.dims,
            strides: [1, x, x * y],
            to_index: inverse(&volume.affine),
        }
    }

    /// Something on the network's grid.
    fn of(screened: &Screened, data: &'a [f32]) -> Self {
        let [_, y, z] = screened.dims;
        Self {
            data,
            dims: screened.dims,
            strides: [y * z, z, 1],
            to_index: inverse(&screened.affine),
        }
    }

    /// Trilinear; 0 outside.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "indices are checked to lie inside the grid"
    )]
    fn at(&self, mm: [f64; 3]) -> f32 {
        let Some(to_index) = &self.to_index else {
            return 0.0;
        };
        let index = apply(to_index, mm);
        let mut low = [0_usize; 3];
        let mut part = [0.0_f32; 3];
        for axis in 0..3 {
            let last = self.dims[axis].saturating_sub(1) as f64;
            if !(-0.5..=last + 0.5).contains(&index[axis]) {
                return 0.0;
            }
            let inside = index[axis].clamp(0.0, last);
            low[axis] = (inside.floor() as usize).min(self.dims[axis].saturating_sub(2));
            part[axis] = (inside - low[axis] as f64) as f32;
        }
        let mut sum = 0.0;
        for corner in 0..8_usize {
            let (mut weight, mut at) = (1.0_f32, 0);
            for axis in 0..3 {
                let up = corner >> axis & 1;
                weight *= if up == 1 {
                    part[axis]
                } else {
                    1.0 - part[axis]
                };
                at += (low[axis] + up).min(self.dims[axis] - 1) * self.strides[axis];
            }
            sum += weight * self.data[at];
        }
        sum
    }
}

fn sample(plane: &Plane, high: [f64; 3], focus: [f64; 3], field: &Field) -> Vec<f32> {
    let mut values = Vec::with_capacity(plane.width * plane.height);
    for row in 0..plane.height {
        for column in 0..plane.width {
            #[expect(clippy::cast_precision_loss, reason = "pixel indices")]
            let mm = (plane.at)(high, focus, column as f64, row as f64);
            values.push(field.at(mm));
        }
    }
    values
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "grey levels, clamped to a byte"
)]
fn greys(values: &[f32]) -> Vec<u8> {
    let mut lit: Vec<f32> = values.iter().copied().filter(|v| *v > 0.0).collect();
    lit.sort_by(f32::total_cmp);
    let rank = (lit.len().saturating_sub(1) as f64 * WHITE_RANK) as usize;
    let white = lit.get(rank).copied().unwrap_or(1.0);
    values
        .iter()
        .map(|v| (v / white * 255.0).clamp(0.0, 255.0) as u8)
        .collect()
}

/// 1 where the network saw one of the codes.
fn mask(screened: &Screened, codes: &[i64], wanted: &[i64]) -> Vec<f32> {
    let inside: Vec<bool> = codes.iter().map(|code| wanted.contains(code)).collect();
    let of = |label: &u8| inside.get(usize::from(*label)) == Some(&true);
    screened
        .labels
        .iter()
        .map(|label| f32::from(u8::from(of(label))))
        .collect()
}

/// The rims of the masks, interpolated, so that they are smoother than the network's voxels.
fn outlines(
    plane: &Plane,
    high: [f64; 3],
    focus: [f64; 3],
    screened: &Screened,
    masks: &[Vec<f32>; OUTLINES.len()],
) -> Vec<u8> {
    let mut rgba = vec![0; plane.width * plane.height * 4];
    for (mask, outline) in masks.iter().zip(OUTLINES) {
        if mask.iter().all(|m| *m == 0.0) {
            continue;
        }
        let values = sample(plane, high, focus, &Field::of(screened, mask));
        for at in 0..values.len() {
            if on_rim(&values, at, plane.width) {
                let [r, g, b] = outline.rgb;
                rgba[at * 4..at * 4 + 4].copy_from_slice(&[r, g, b, 255]);
            }
        }
    }
    rgba
}

/// A pixel inside whose neighbour is outside.
fn on_rim(values: &[f32], at: usize, width: usize) -> bool {
    let over = |at: usize| values.get(at).is_some_and(|v| *v >= OUTLINE_FROM);
    over(at)
        && !(over(at + 1)
            && over(at.wrapping_sub(1))
            && over(at + width)
            && over(at.wrapping_sub(width)))
}

fn overlay(values: &[f32], width: usize) -> Vec<u8> {
    let mut rgba = Vec::with_capacity(values.len() * 4);
    for (at, value) in values.iter().enumerate() {
        let rim = on_rim(values, at, width);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an opacity, clamped to a byte"
        )]
        let tint = ((value - TINT_FROM) / (1.0 - TINT_FROM) * 90.0).clamp(0.0, 90.0) as u8;
        let alpha = if rim { 255 } else { tint };
        rgba.extend_from_slice(&[TINT[0], TINT[1], TINT[2], alpha]);
    }
    rgba
}

fn write(
    folder: &Path,
    name: &str,
    plane: &Plane,
    color: png::ColorType,
    bytes: &[u8],
) -> io::Result<()> {
    let size = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let file = std::fs::File::create(folder.join(name))?;
    let mut encoder = png::Encoder::new(
        io::BufWriter::new(file),
        size(plane.width)?,
        size(plane.height)?,
    );
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(bytes).map_err(io::Error::other)
}
