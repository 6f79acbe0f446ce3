//! Is there enough in a volume to be worth an analysis?

use super::affine::voxel_sizes;
use super::{NotAVolume, Volume};
use serde::{Deserialize, Serialize};

/// What a volume must at least have. A value of 0 asks for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContentLimits {
    /// Voxels along the shortest axis.
    pub slices_min: usize,
    /// The two longer sides of the field of view, mm: a head does not fit into less.
    pub sides_min_mm: f64,
    /// The shortest side, mm: thinner slabs (pituitary, orbits) show too little of the brain.
    pub depth_min_mm: f64,
    /// No side may be longer, mm: whole spines and typing errors.
    pub side_max_mm: f64,
    /// No voxel may be longer, mm.
    pub voxel_max_mm: f64,
}

impl Default for ContentLimits {
    fn default() -> Self {
        Self {
            slices_min: 10,
            sides_min_mm: 120.0,
            depth_min_mm: 70.0,
            side_max_mm: 600.0,
            voxel_max_mm: 12.0,
        }
    }
}

impl ContentLimits {
    /// Accepts any size; constant and broken images are still refused.
    #[must_use]
    pub fn any_size() -> Self {
        Self {
            slices_min: 0,
            sides_min_mm: 0.0,
            depth_min_mm: 0.0,
            side_max_mm: f64::MAX,
            voxel_max_mm: f64::MAX,
        }
    }
}

/// Refuses what cannot show a brain, whatever its header says.
///
/// # Errors
/// [`NotAVolume`]: too few slices, too small or too large a field of view, no picture in it.
pub fn check(volume: &Volume, limits: &ContentLimits) -> Result<(), NotAVolume> {
    check_size(volume, limits)?;
    check_intensities(&volume.data)
}

fn check_size(volume: &Volume, limits: &ContentLimits) -> Result<(), NotAVolume> {
    let slices = volume.dims.iter().min().copied().unwrap_or(0);
    if slices < limits.slices_min {
        return Err(NotAVolume(format!(
            "too few slices: {slices}, at least {} are needed",
            limits.slices_min
        )));
    }
    let voxel = voxel_sizes(&volume.affine);
    #[allow(clippy::cast_precision_loss, reason = "axis lengths are small")]
    let mut sides: [f64; 3] = std::array::from_fn(|axis| voxel[axis] * volume.dims[axis] as f64);
    sides.sort_by(f64::total_cmp);
    let shown = format!("{:.0} x {:.0} x {:.0} mm", sides[2], sides[1], sides[0]);
    if sides[0] < limits.depth_min_mm || sides[1] < limits.sides_min_mm {
        return Err(NotAVolume(format!(
            "the field of view of {shown} is too small to show the brain"
        )));
    }
    if sides[2] > limits.side_max_mm {
        return Err(NotAVolume(format!(
            "the field of view of {shown} is too large for a head"
        )));
    }
    let longest = voxel.into_iter().fold(0.0, f64::max);
    if longest > limits.voxel_max_mm {
        return Err(NotAVolume(format!(
            "the slices are {longest:.1} mm apart, too far to measure anything"
        )));
    }
    Ok(())
}

fn check_intensities(data: &[f32]) -> Result<(), NotAVolume> {
    let mut range = (f32::INFINITY, f32::NEG_INFINITY);
    for &value in data {
        if !value.is_finite() {
            return Err(NotAVolume::because(
                "the images hold values that are no numbers",
            ));
        }
        range = (range.0.min(value), range.1.max(value));
    }
    if range.0 >= range.1 {
        return Err(NotAVolume::because(
            "the images are empty: every pixel has the same value",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 x 20 x `slices` voxels of `size` mm with something in them.
    fn volume(slices: usize, size: f64) -> Volume {
        let affine = [
            [size, 0.0, 0.0, 0.0],
            [0.0, size, 0.0, 0.0],
            [0.0, 0.0, size, 0.0],
        ];
        let mut data = vec![0.0; 400 * slices];
        data[7] = 1.0;
        Volume {
            dims: [20, 20, slices],
            affine,
            data,
        }
    }

    #[track_caller]
    fn refused(volume: &Volume, part: &str) {
        let NotAVolume(reason) = check(volume, &ContentLimits::default()).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }

    #[test]
    fn sizes() {
        assert_eq!(check(&volume(20, 9.0), &ContentLimits::default()), Ok(()));
        refused(&volume(9, 9.0), "too few slices: 9");
        refused(&volume(20, 5.0), "100 x 100 x 100 mm is too small");
        refused(&volume(20, 40.0), "too large");
        refused(&volume(20, 13.0), "13.0 mm apart");
        assert_eq!(check(&volume(2, 1.0), &ContentLimits::any_size()), Ok(()));
    }

    #[test]
    fn contents() {
        let mut empty = volume(20, 9.0);
        empty.data.fill(3.0);
        refused(&empty, "empty");
        empty.data[5] = f32::NAN;
        refused(&empty, "no numbers");
    }
}
