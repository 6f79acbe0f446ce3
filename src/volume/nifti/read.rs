//! Bytes to volume.

use super::{DataType, HEADER_BYTES, VOXELS_START, rotation};
use crate::volume::affine::{determinant, from_columns, scale, voxel_sizes};
use crate::volume::{Affine, NotAVolume, Volume};
use flate2::bufread::MultiGzDecoder;
use std::io::Read;

/// Header extensions longer than this are skipped over by nobody: refused, bytes.
const EXTENSIONS_MAX_BYTES: usize = 16 << 20;
/// Voxels decoded at a time.
const VOXELS_A_READ: usize = 1 << 16;
/// Voxel sizes that can be, mm.
const VOXEL_SIZE_MM: std::ops::RangeInclusive<f64> = 1e-3..=1e3;

/// Reads a `.nii` or `.nii.gz` file; which of them is told by its first bytes.
///
/// Intensities are scaled by `scl_slope` and `scl_inter`; values that are no numbers become 0.
/// The affine is the sform where its code is set, else the qform.
/// # Errors
/// [`NotAVolume`]: no NIfTI-1, no single 3D image, more than `voxels_max` voxels, cut short,
/// or no place in the patient.
pub fn read(bytes: &[u8], voxels_max: usize) -> Result<Volume, NotAVolume> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        read_from(MultiGzDecoder::new(bytes), voxels_max)
    } else {
        read_from(bytes, voxels_max)
    }
}

fn read_from(mut source: impl Read, voxels_max: usize) -> Result<Volume, NotAVolume> {
    let mut header = [0; HEADER_BYTES];
    source
        .read_exact(&mut header)
        .map_err(|_| NotAVolume::because("the file is too short for a NIfTI image"))?;
    let header = Header::parse(&header)?;
    let dims = header.dims()?;
    let voxels = dims
        .iter()
        .try_fold(1_usize, |product, n| product.checked_mul(*n))
        .filter(|voxels| *voxels <= voxels_max)
        .ok_or_else(|| {
            NotAVolume(format!(
                "the image is larger than the limit of {voxels_max} voxels"
            ))
        })?;
    let data_type = header.data_type()?;
    let affine = header.affine()?;
    header.skip_extensions(&mut source)?;
    let data = header.voxels(&mut source, data_type, voxels)?;
    Ok(Volume { dims, affine, data })
}

/// The 348 bytes, with the byte order they are in.
struct Header<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    big_endian: bool,
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8; HEADER_BYTES]) -> Result<Self, NotAVolume> {
        let size: [u8; 4] = std::array::from_fn(|n| bytes[n]);
        let big_endian = match (u32::from_le_bytes(size), u32::from_be_bytes(size)) {
            (348, _) => false,
            (_, 348) => true,
            (540, _) | (_, 540) => {
                return Err(NotAVolume::because(
                    "NIfTI-2 is not read: save it as NIfTI-1",
                ));
            }
            _ => return Err(NotAVolume::because("the file is no NIfTI image")),
        };
        match &bytes[344..348] {
            b"n+1\0" => Ok(Self { bytes, big_endian }),
            b"ni1\0" => Err(NotAVolume::because(
                "a NIfTI header without its voxels: save header and image as one .nii file",
            )),
            _ => Err(NotAVolume::because("the file is no NIfTI image")),
        }
    }

    fn i16(&self, at: usize) -> i16 {
        let bytes = [self.bytes[at], self.bytes[at + 1]];
        if self.big_endian {
            i16::from_be_bytes(bytes)
        } else {
            i16::from_le_bytes(bytes)
        }
    }

    fn f32(&self, at: usize) -> f64 {
        let bytes = std::array::from_fn(|n| self.bytes[at + n]);
        f64::from(if self.big_endian {
            f32::from_be_bytes(bytes)
        } else {
            f32::from_le_bytes(bytes)
        })
    }

    /// `dim`: one 3D image, or a single slice.
    fn dims(&self) -> Result<[usize; 3], NotAVolume> {
        let count = self.i16(40);
        let axis = |n: i16| -> Result<usize, NotAVolume> {
            if n > count {
                return Ok(1);
            }
            let at = 40 + 2 * usize::try_from(n).unwrap_or(0);
            usize::try_from(self.i16(at))
                .ok()
                .filter(|length| *length > 0)
                .ok_or_else(|| NotAVolume::because("the image has an axis without voxels"))
        };
        if !(1..=7).contains(&count) {
            return Err(NotAVolume::because("the image has no 3 axes"));
        }
        for further in 4..=7 {
            if axis(further)? > 1 {
                return Err(NotAVolume::because(
                    "the file holds several images (4D): one is needed",
                ));
            }
        }
        Ok([axis(1)?, axis(2)?, axis(3)?])
    }

    fn data_type(&self) -> Result<DataType, NotAVolume> {
        let code = self.i16(70);
        DataType::of(code).ok_or_else(|| {
            NotAVolume(format!(
                "voxels of NIfTI type {code} (colour, complex) are not read"
            ))
        })
    }

    fn affine(&self) -> Result<Affine, NotAVolume> {
        let affine = if self.i16(254) > 0 {
            self.sform()
        } else if self.i16(252) > 0 {
            self.qform()
        } else {
            return Err(NotAVolume::because(
                "the file does not say how the image lies in the patient (no sform, no qform)",
            ));
        };
        let finite = affine.iter().flatten().all(|v| v.is_finite());
        let sizes = voxel_sizes(&affine);
        let cell = sizes[0] * sizes[1] * sizes[2];
        let possible = sizes.iter().all(|size| VOXEL_SIZE_MM.contains(size))
            && determinant(&affine).abs() > 1e-3 * cell;
        if finite && possible {
            Ok(affine)
        } else {
            Err(NotAVolume::because(
                "the image's place in the patient cannot be right (sform or qform)",
            ))
        }
    }

    fn sform(&self) -> Affine {
        std::array::from_fn(|row| {
            std::array::from_fn(|column| self.f32(280 + 16 * row + 4 * column))
        })
    }

    fn qform(&self) -> Affine {
        let qfac = if self.f32(76) < 0.0 { -1.0 } else { 1.0 };
        let turned = rotation([self.f32(256), self.f32(260), self.f32(264)], qfac);
        let sized = |axis: usize| scale(turned[axis], self.f32(80 + 4 * axis));
        from_columns(
            sized(0),
            sized(1),
            sized(2),
            [self.f32(268), self.f32(272), self.f32(276)],
        )
    }

    /// Reads on to `vox_offset`.
    fn skip_extensions(&self, source: &mut impl Read) -> Result<(), NotAVolume> {
        let refused = || NotAVolume::because("the NIfTI header is broken (vox_offset)");
        let offset = self.f32(108);
        if !(0.0..=1e9).contains(&offset) {
            return Err(refused());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be small and positive"
        )]
        let start = (offset as usize).max(VOXELS_START);
        let length = start - HEADER_BYTES;
        if length > EXTENSIONS_MAX_BYTES {
            return Err(refused());
        }
        let wanted = u64::try_from(length).map_err(|_| refused())?;
        let skipped = std::io::copy(&mut source.take(wanted), &mut std::io::sink());
        if skipped.is_ok_and(|count| count == wanted) {
            Ok(())
        } else {
            Err(cut_short())
        }
    }

    fn voxels(
        &self,
        source: &mut impl Read,
        data_type: DataType,
        voxels: usize,
    ) -> Result<Vec<f32>, NotAVolume> {
        let (slope, inter) = match (self.f32(112), self.f32(116)) {
            (slope, inter) if slope.is_finite() && slope != 0.0 && inter.is_finite() => {
                (slope, inter)
            }
            _ => (1.0, 0.0),
        };
        let size = data_type.bytes();
        let mut data = Vec::new();
        let mut bytes = vec![0; VOXELS_A_READ * size];
        while data.len() < voxels {
            let part = (voxels - data.len()).min(VOXELS_A_READ);
            let bytes = &mut bytes[..part * size];
            source.read_exact(bytes).map_err(|_| cut_short())?;
            if self.big_endian {
                bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            data.extend(bytes.chunks_exact(size).map(|voxel| {
                let value = stored(data_type, voxel) * slope + inter;
                #[allow(clippy::cast_possible_truncation, reason = "f32 is what networks read")]
                let value = value as f32;
                if value.is_finite() { value } else { 0.0 }
            }));
        }
        Ok(data)
    }
}

fn cut_short() -> NotAVolume {
    NotAVolume::because("the file ends before its last voxel")
}

/// One little-endian voxel; `bytes` has the type's length.
#[allow(
    clippy::cast_precision_loss,
    reason = "64-bit voxels become f32 in the end"
)]
fn stored(data_type: DataType, bytes: &[u8]) -> f64 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        std::array::from_fn(|n| bytes[n])
    }
    match data_type {
        DataType::U8 => f64::from(bytes[0]),
        DataType::I8 => f64::from(bytes[0].cast_signed()),
        DataType::I16 => f64::from(i16::from_le_bytes(array(bytes))),
        DataType::U16 => f64::from(u16::from_le_bytes(array(bytes))),
        DataType::I32 => f64::from(i32::from_le_bytes(array(bytes))),
        DataType::U32 => f64::from(u32::from_le_bytes(array(bytes))),
        DataType::F32 => f64::from(f32::from_le_bytes(array(bytes))),
        DataType::F64 => f64::from_le_bytes(array(bytes)),
        DataType::I64 => i64::from_le_bytes(array(bytes)) as f64,
        DataType::U64 => u64::from_le_bytes(array(bytes)) as f64,
    }
}
