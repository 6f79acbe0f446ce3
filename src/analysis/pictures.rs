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

/// Draws `PLANE.png` and `PLANE_overlay.png` (same size, transparent where nothing differs)
/// through `focus_mm`, or through the middle of the brain, and gives the planes drawn.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(
    folder: &Path,
    volume: &Volume,
    screened: &Screened,
    focus_mm: Option<[f64; 3]>,
) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let focus = focus_mm.unwrap_or_else(|| middle(screened));
    let extent_mm = screened.dims.map(|n| n * 2);
    #[expect(clippy::cast_precision_loss, reason = "grid indices")]
    let last = screened.dims.map(|n| (n - 1) as f64);
    let high = apply(&screened.affine, last);
    let map = Field::of_map(screened);
    let image = Field::of_volume(volume);
    let mut drawn = Vec::new();
    for (i, name) in PLANES.iter().enumerate() {
        let plane = plane(i, extent_mm);
        let grey = sample(&plane, high, focus, &image);
        write(
            folder,
            &format!("{name}.png"),
            &plane,
            png::ColorType::Grayscale,
            &greys(&grey),
        )?;
        // Without a region that counts the map is not shown: it marks some healthy tissue too.
        let tint = match focus_mm {
            Some(_) => sample(&plane, high, focus, &map),
            None => vec![0.0; plane.width * plane.height],
        };
        let layer = overlay(&tint, plane.width);
        write(
            folder,
            &format!("{name}_overlay.png"),
            &plane,
            png::ColorType::Rgba,
            &layer,
        )?;
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

    fn of_map(screened: &'a Screened) -> Self {
        let [_, y, z] = screened.dims;
        Self {
            data: &screened.abnormality,
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

fn overlay(values: &[f32], width: usize) -> Vec<u8> {
    let over = |at: usize| values.get(at).is_some_and(|v| *v >= OUTLINE_FROM);
    let mut rgba = Vec::with_capacity(values.len() * 4);
    for (at, value) in values.iter().enumerate() {
        let rim = over(at)
            && !(over(at + 1)
                && over(at.wrapping_sub(1))
                && over(at + width)
                && over(at.wrapping_sub(width)));
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
