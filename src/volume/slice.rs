//! One slice of a series: where it lies, what tells it from others at the same place, its pixels.

use super::NotAVolume;
use super::affine::{Vector, cross, dot, unit};

/// Where a slice lies in the patient, in DICOM's own axes
/// (LPS: x to the patient's left, y posterior, z superior; PS3.3 C.7.6.2.1.1).
#[derive(Debug, Clone, PartialEq)]
pub struct SliceGeometry {
    /// (0028,0010) Rows
    pub rows: usize,
    /// (0028,0011) Columns
    pub columns: usize,
    /// (0020,0032) centre of the first pixel, mm
    pub position: Vector,
    /// (0020,0037) values 1 to 3: the direction of increasing column index, length 1
    pub along_row: Vector,
    /// (0020,0037) values 4 to 6: the direction of increasing row index, length 1
    pub along_column: Vector,
    /// (0028,0030) mm: between rows, between columns
    pub pixel_spacing: [f64; 2],
}

/// In-plane spacings outside this are typing errors, not MR images, mm.
const PIXEL_SPACING_MM: std::ops::RangeInclusive<f64> = 0.02..=20.0;
/// Farther from the scanner's isocentre than this no patient lies, mm.
const POSITION_MAX_MM: f64 = 10_000.0;
/// How far the two in-plane directions may be from square, and their length from 1.
const ORIENTATION_TOLERANCE: f64 = 0.01;

impl SliceGeometry {
    /// Checks the values of the Image Plane module and puts them together.
    ///
    /// # Errors
    /// Says which value cannot be: no pixels, a spacing of 0, directions that are not square.
    pub fn new(
        [rows, columns]: [usize; 2],
        position: Vector,
        orientation: [f64; 6],
        pixel_spacing: [f64; 2],
    ) -> Result<Self, NotAVolume> {
        if rows == 0 || columns == 0 {
            return Err(NotAVolume::because("an image has no rows or no columns"));
        }
        if !pixel_spacing.iter().all(|s| PIXEL_SPACING_MM.contains(s)) {
            return Err(NotAVolume::because(format!(
                "the pixel spacing of {} x {} mm cannot be right",
                pixel_spacing[0], pixel_spacing[1]
            )));
        }
        if !position.iter().all(|p| p.abs() <= POSITION_MAX_MM) {
            return Err(NotAVolume::because(
                "an image's position in the patient cannot be right",
            ));
        }
        let [along_row, along_column] = directions(orientation)?;
        Ok(Self {
            rows,
            columns,
            position,
            along_row,
            along_column,
            pixel_spacing,
        })
    }

    /// The direction across the slice: row direction x column direction, length about 1, LPS.
    #[must_use]
    pub fn normal(&self) -> Vector {
        cross(self.along_row, self.along_column)
    }

    /// Position along `normal`, mm.
    #[must_use]
    pub fn height(&self, normal: Vector) -> f64 {
        dot(self.position, normal)
    }
}

fn directions(orientation: [f64; 6]) -> Result<[Vector; 2], NotAVolume> {
    let part = |from: usize| std::array::from_fn(|n| orientation[from + n]);
    let refused = || {
        NotAVolume::because("an image's orientation in the patient cannot be right (not square)")
    };
    let straighten = |v: Vector| {
        let near_one = (super::affine::length(v) - 1.0).abs() <= ORIENTATION_TOLERANCE;
        unit(v).filter(|_| near_one).ok_or_else(refused)
    };
    let (row, column) = (straighten(part(0))?, straighten(part(3))?);
    if dot(row, column).abs() > ORIENTATION_TOLERANCE {
        return Err(refused());
    }
    Ok([row, column])
}

/// What tells slices at the same place apart: echoes, time points, magnitude and phase.
///
/// Absent values are `None`; all are compared only within one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SliceLabels {
    /// (0020,0013), or the frame's number from 1 in an enhanced object; only for messages.
    pub number: Option<i64>,
    /// (0008,0008) or (0008,9007) with (0008,9208), joined by `\`.
    pub image_type: String,
    /// (0020,9056) Stack ID
    pub stack: Option<String>,
    /// (0018,9087) s/mm2
    pub b_value: Option<f64>,
    /// (0018,0081) or (0018,9082), ms
    pub echo_time_ms: Option<f64>,
    /// (0018,0082) or (0018,9079), ms
    pub inversion_time_ms: Option<f64>,
    /// (0018,1314) degrees
    pub flip_angle_deg: Option<f64>,
    /// (0020,0100) or (0020,9128)
    pub temporal_position: Option<i64>,
    /// (0018,1060) or (0020,9153), ms
    pub trigger_time_ms: Option<f64>,
    /// (0020,0012) or (0020,9156)
    pub acquisition: Option<i64>,
}

/// A slice with its decoded pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Where it lies.
    pub geometry: SliceGeometry,
    /// What it is one of several of.
    pub labels: SliceLabels,
    /// Intensities after rescale slope and intercept, row by row: index = column + columns * row.
    pub pixels: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

    #[track_caller]
    fn check(spacing: [f64; 2], orientation: [f64; 6], want: Option<&str>) {
        let got = SliceGeometry::new([2, 2], [0.0; 3], orientation, spacing).err();
        match (got, want) {
            (None, None) => {}
            (Some(NotAVolume(text)), Some(part)) => assert!(text.contains(part), "{text}"),
            (got, want) => panic!("{got:?} is not {want:?}"),
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        check([1.0, 1.0], AXIAL, None);
        check([0.0, 1.0], AXIAL, Some("pixel spacing"));
        check([f64::NAN, 1.0], AXIAL, Some("pixel spacing"));
        check(
            [1.0, 1.0],
            [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
            Some("orientation"),
        );
        check([1.0, 1.0], [0.0; 6], Some("orientation"));
        check([1.0, 1.0], [f64::NAN; 6], Some("orientation"));
    }
}
