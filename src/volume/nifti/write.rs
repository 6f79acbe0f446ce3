//! Volume to bytes.

use super::{DataType, HEADER_BYTES, VOXELS_START, quaternion};
use crate::volume::affine::{column, voxel_sizes};
use crate::volume::{Affine, NotAVolume};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// Voxels to store, in NIfTI order (i fastest).
#[derive(Debug, Clone, Copy)]
pub enum Voxels<'a> {
    /// Intensities, probabilities.
    F32(&'a [f32]),
    /// Whole-number intensities.
    I16(&'a [i16]),
    /// Label codes up to 255.
    U8(&'a [u8]),
}

impl Voxels<'_> {
    fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::F32(_) => DataType::F32,
            Self::I16(_) => DataType::I16,
            Self::U8(_) => DataType::U8,
        }
    }

    fn append_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::F32(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::I16(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::U8(values) => bytes.extend_from_slice(values),
        }
    }
}

/// `xyzt_units`: millimetres.
const UNITS_MM: u8 = 2;
/// `sform_code` and `qform_code`: scanner coordinates.
const SCANNER: i16 = 1;

/// The bytes of a `.nii` file, or of a `.nii.gz` where `gzip`.
///
/// sform and qform are both set; the qform is the nearest rotation to an affine with shear.
/// # Errors
/// [`NotAVolume`] where `voxels` are not as many as `dims` say, an axis is longer than
/// 32,767, or the affine is singular.
pub fn encode(
    dims: [usize; 3],
    affine: &Affine,
    voxels: Voxels<'_>,
    gzip: bool,
) -> Result<Vec<u8>, NotAVolume> {
    let header = header(dims, affine, voxels)?;
    let mut bytes = Vec::with_capacity(VOXELS_START + voxels.len() * voxels.data_type().bytes());
    bytes.extend_from_slice(&header);
    bytes.resize(VOXELS_START, 0);
    voxels.append_to(&mut bytes);
    if !gzip {
        return Ok(bytes);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .map_err(|_| NotAVolume::because("the image could not be compressed"))
}

#[allow(clippy::cast_possible_truncation, reason = "the format stores f32")]
fn header(
    dims: [usize; 3],
    affine: &Affine,
    voxels: Voxels<'_>,
) -> Result<[u8; HEADER_BYTES], NotAVolume> {
    let wanted = dims
        .iter()
        .try_fold(1_usize, |product, n| product.checked_mul(*n));
    if wanted != Some(voxels.len()) {
        return Err(NotAVolume::because("voxels and dimensions do not agree"));
    }
    let columns = [0, 1, 2].map(|axis| column(affine, axis));
    let (bcd, qfac) =
        quaternion(columns).ok_or_else(|| NotAVolume::because("the image's axes span no space"))?;
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    put(38, b"r");
    put(40, &3_i16.to_le_bytes());
    for (axis, length) in dims.iter().chain(&[1; 4]).enumerate() {
        let length = i16::try_from(*length)
            .map_err(|_| NotAVolume::because("an axis is too long for a NIfTI image"))?;
        put(42 + 2 * axis, &length.to_le_bytes());
    }
    let data_type = voxels.data_type();
    put(70, &(data_type as i16).to_le_bytes());
    let bits = i16::try_from(8 * data_type.bytes()).unwrap_or(0);
    put(72, &bits.to_le_bytes());
    let mut put_f32 = |at: usize, value: f64| put(at, &(value as f32).to_le_bytes());
    put_f32(76, qfac);
    for (axis, size) in voxel_sizes(affine).into_iter().enumerate() {
        put_f32(80 + 4 * axis, size);
        put_f32(256 + 4 * axis, bcd[axis]);
        put_f32(268 + 4 * axis, affine[axis][3]);
        for (n, value) in affine[axis].into_iter().enumerate() {
            put_f32(280 + 16 * axis + 4 * n, value);
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "352")]
    put_f32(108, VOXELS_START as f64);
    put_f32(112, 1.0);
    put(123, &[UNITS_MM]);
    put(148, crate::RESEARCH_USE.as_bytes());
    put(252, &SCANNER.to_le_bytes());
    put(254, &SCANNER.to_le_bytes());
    put(344, b"n+1\0");
    Ok(header)
}
