//! One file to its slices: a classic image gives one, an enhanced object one a frame.

use super::DecodeError;
use super::object::{exactly, items, number, text, whole};
use super::pixels::{Rescale, SampleFormat};
use crate::volume::NotAVolume;
use crate::volume::slice::{Slice, SliceGeometry, SliceLabels};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one file gave.
#[derive(Debug, Default)]
pub(super) struct FileSlices {
    /// In the order of the frames; empty where the object has no pixels.
    pub slices: Vec<Slice>,
    /// (0018,0023) is `3D`.
    pub acquired_in_3d: bool,
    /// (0020,1002)
    pub images_in_acquisition: Option<i64>,
}

/// Where each frame of an object lies; its pixels need not be read.
///
/// # Errors
/// As [`slices_of`].
pub(in crate::dicom) fn geometries(
    object: &DefaultDicomObject,
) -> Result<Vec<SliceGeometry>, DecodeError> {
    let image = ImageShape::of(object)?;
    let places = frame_places(object, image.frames)?;
    places.iter().map(|place| geometry(&image, place)).collect()
}

/// Counts decoded samples over all threads.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
    samples: usize,
}

impl Budget {
    /// `samples` may be decoded in all.
    pub fn new(samples: usize) -> Self {
        Self {
            left: AtomicUsize::new(samples),
            samples,
        }
    }

    fn take(&self, samples: usize) -> Result<(), DecodeError> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(samples)
            })
            .map(|_| ())
            .map_err(|_| {
                DecodeError::NotAVolume(format!(
                    "the series has more than the limit of {} pixels",
                    self.samples
                ))
            })
    }
}

impl From<NotAVolume> for DecodeError {
    fn from(reason: NotAVolume) -> Self {
        Self::NotAVolume(reason.0)
    }
}

/// Reads and decodes one file.
///
/// # Errors
/// [`DecodeError::Failed`] where the object cannot be read or decoded,
/// [`DecodeError::NotAVolume`] where it is no picture of a slice.
pub(super) fn slices_of(path: &Path, budget: &Budget) -> Result<FileSlices, DecodeError> {
    let object = OpenFileOptions::new()
        .read_to(tags::PIXEL_DATA)
        .open_file(path)
        .map_err(|error| failed("it cannot be read as DICOM", &error))?;
    if object.get(tags::PIXEL_DATA).is_none() {
        return Ok(FileSlices::default());
    }
    let top = [&*object];
    refuse_unsuitable(&top)?;
    let image = ImageShape::of(&object)?;
    budget.take(image.samples()?)?;
    let places = frame_places(&object, image.frames)?;
    let bytes = decoded_bytes(&object, image.samples()? * image.format.bytes())?;
    let frame_bytes = image.rows * image.columns * image.format.bytes();
    let slices = places
        .iter()
        .zip(bytes.chunks_exact(frame_bytes))
        .enumerate()
        .map(|(index, (place, bytes))| slice(&image, place, index, bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(FileSlices {
        slices,
        acquired_in_3d: text(&top, tags::MR_ACQUISITION_TYPE).is_some_and(|t| t == "3D"),
        images_in_acquisition: whole(&top, tags::IMAGES_IN_ACQUISITION),
    })
}

/// The first line of a library's error, without the data that caused it.
fn failed(what: &str, error: &dyn std::error::Error) -> DecodeError {
    /// Enough to tell faults apart in a report.
    const DETAIL_MAX_CHARS: usize = 160;
    let detail: String = error
        .to_string()
        .chars()
        .filter(|c| !c.is_control())
        .take(DETAIL_MAX_CHARS)
        .collect();
    DecodeError::Failed(format!("{what}: {}", lower_first(&detail)))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Pictures that are never slices of a volume.
fn refuse_unsuitable(top: &[&InMemDicomObject]) -> Result<(), DecodeError> {
    let refuse = |reason: &str| Err(DecodeError::NotAVolume(reason.to_owned()));
    let image_type = text(top, tags::IMAGE_TYPE).unwrap_or_default();
    if image_type.split('\\').any(|value| value == "MOSAIC") {
        return refuse("mosaic: many slices are tiled into each picture (functional or diffusion)");
    }
    let photometric = text(top, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
    if !photometric.starts_with("MONOCHROME") || number(top, tags::SAMPLES_PER_PIXEL) > Some(1.0) {
        return refuse("colour pictures, not scanner images");
    }
    Ok(())
}

/// Size and storage of an object's frames.
struct ImageShape {
    rows: usize,
    columns: usize,
    frames: usize,
    format: SampleFormat,
}

impl ImageShape {
    fn of(object: &DefaultDicomObject) -> Result<Self, DecodeError> {
        let top = [&**object];
        let count = |tag: Tag, name: &str| {
            whole(&top, tag)
                .and_then(|n| u16::try_from(n).ok())
                .ok_or_else(|| DecodeError::Failed(format!("its {name} are missing")))
        };
        let bits_allocated = count(tags::BITS_ALLOCATED, "bits allocated")?;
        let bits_stored = count(tags::BITS_STORED, "bits stored").unwrap_or(bits_allocated);
        let format = SampleFormat {
            bits_allocated,
            bits_stored,
            high_bit: count(tags::HIGH_BIT, "high bit").unwrap_or(bits_stored.saturating_sub(1)),
            signed: whole(&top, tags::PIXEL_REPRESENTATION) == Some(1),
            inverted: text(&top, tags::PHOTOMETRIC_INTERPRETATION).as_deref()
                == Some("MONOCHROME1"),
        };
        let frames = whole(&top, tags::NUMBER_OF_FRAMES).unwrap_or(1);
        Ok(Self {
            rows: count(tags::ROWS, "rows")?.into(),
            columns: count(tags::COLUMNS, "columns")?.into(),
            frames: usize::try_from(frames)
                .ok()
                .filter(|frames| *frames > 0)
                .ok_or_else(|| DecodeError::Failed("its number of frames cannot be".into()))?,
            format: format.checked()?,
        })
    }

    fn samples(&self) -> Result<usize, DecodeError> {
        (self.rows * self.columns)
            .checked_mul(self.frames)
            .filter(|samples| *samples > 0)
            .ok_or_else(|| DecodeError::Failed("its size in pixels cannot be".into()))
    }
}

/// For each frame: the data sets to look into, nearest first.
fn frame_places(
    object: &DefaultDicomObject,
    frames: usize,
) -> Result<Vec<Vec<&InMemDicomObject>>, DecodeError> {
    let per_frame = items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    if per_frame.is_empty() && frames == 1 {
        return Ok(vec![vec![&**object]]);
    }
    if per_frame.len() != frames {
        return Err(DecodeError::NotAVolume(format!(
            "{frames} pictures in one object, but a position for {} of them",
            per_frame.len()
        )));
    }
    let shared = items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    let shared_groups: Vec<_> = shared.map(groups).unwrap_or_default();
    Ok(per_frame
        .iter()
        .map(|frame| {
            let mut places = groups(frame);
            places.extend(&shared_groups);
            places.push(&**object);
            places
        })
        .collect())
}

/// The functional groups that geometry, intensities and labels stand in (PS3.3 C.7.6.16.2, C.8.13.5).
fn groups(item: &InMemDicomObject) -> Vec<&InMemDicomObject> {
    const GROUPS: [Tag; 9] = [
        tags::PLANE_POSITION_SEQUENCE,
        tags::PLANE_ORIENTATION_SEQUENCE,
        tags::PIXEL_MEASURES_SEQUENCE,
        tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
        tags::FRAME_CONTENT_SEQUENCE,
        tags::MR_ECHO_SEQUENCE,
        tags::MR_IMAGE_FRAME_TYPE_SEQUENCE,
        tags::MR_DIFFUSION_SEQUENCE,
        tags::MR_TIMING_AND_RELATED_PARAMETERS_SEQUENCE,
    ];
    GROUPS
        .iter()
        .chain([&tags::MR_MODIFIER_SEQUENCE])
        .filter_map(|&tag| items(item, tag).first())
        .collect()
}

/// The pixel data in native little-endian form, exactly `expected` bytes.
fn decoded_bytes(object: &DefaultDicomObject, expected: usize) -> Result<Vec<u8>, DecodeError> {
    let decoded = object
        .decode_pixel_data()
        .map_err(|error| failed("its pixels cannot be decoded", &error))?;
    let mut bytes = decoded.into_data();
    if bytes.len() < expected {
        return Err(DecodeError::Failed(format!(
            "its pixel data is too short: {} of {expected} bytes",
            bytes.len()
        )));
    }
    bytes.truncate(expected);
    Ok(bytes)
}

fn slice(
    image: &ImageShape,
    places: &[&InMemDicomObject],
    index: usize,
    bytes: &[u8],
) -> Result<Slice, DecodeError> {
    Ok(Slice {
        geometry: geometry(image, places)?,
        labels: labels(places, index),
        pixels: image.format.intensities(bytes, rescale(places)?),
    })
}

fn geometry(
    image: &ImageShape,
    places: &[&InMemDicomObject],
) -> Result<SliceGeometry, DecodeError> {
    let missing = |what: &str| {
        DecodeError::NotAVolume(format!(
            "the images do not say {what} in the patient (screen captures or reports?)"
        ))
    };
    let position =
        exactly(places, tags::IMAGE_POSITION_PATIENT).ok_or_else(|| missing("where they lie"))?;
    let orientation = exactly(places, tags::IMAGE_ORIENTATION_PATIENT)
        .ok_or_else(|| missing("how they are turned"))?;
    let spacing = exactly(places, tags::PIXEL_SPACING)
        .ok_or_else(|| missing("how large their pixels are"))?;
    Ok(SliceGeometry::new(
        [image.rows, image.columns],
        position,
        orientation,
        spacing,
    )?)
}

/// Rescale slope and intercept; a slope of 0 is taken as absent, as other tools do.
fn rescale(places: &[&InMemDicomObject]) -> Result<Rescale, DecodeError> {
    /// Larger factors are typing errors, and overflow what follows.
    const FACTOR_MAX: f64 = 1e9;
    let slope = number(places, tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0);
    let rescale = Rescale {
        slope: slope.unwrap_or(1.0),
        intercept: number(places, tags::RESCALE_INTERCEPT).unwrap_or(0.0),
    };
    if rescale.slope.abs() > FACTOR_MAX || rescale.intercept.abs() > FACTOR_MAX {
        return Err(DecodeError::Failed(
            "its rescale slope or intercept cannot be right".into(),
        ));
    }
    Ok(rescale)
}

fn labels(places: &[&InMemDicomObject], index: usize) -> SliceLabels {
    let first_number = |tags: [Tag; 2]| tags.into_iter().find_map(|tag| number(places, tag));
    let first_whole = |tags: [Tag; 2]| tags.into_iter().find_map(|tag| whole(places, tag));
    let image_type = [
        tags::FRAME_TYPE,
        tags::IMAGE_TYPE,
        tags::COMPLEX_IMAGE_COMPONENT,
    ]
    .into_iter()
    .filter_map(|tag| text(places, tag))
    .collect::<Vec<_>>()
    .join("\\");
    let frame = i64::try_from(index + 1).ok();
    SliceLabels {
        number: if places.len() > 1 {
            frame
        } else {
            whole(places, tags::INSTANCE_NUMBER)
        },
        image_type,
        stack: text(places, tags::STACK_ID),
        b_value: number(places, tags::DIFFUSION_B_VALUE),
        echo_time_ms: first_number([tags::EFFECTIVE_ECHO_TIME, tags::ECHO_TIME]),
        inversion_time_ms: first_number([tags::INVERSION_TIMES, tags::INVERSION_TIME]),
        flip_angle_deg: number(places, tags::FLIP_ANGLE),
        temporal_position: first_whole([
            tags::TEMPORAL_POSITION_INDEX,
            tags::TEMPORAL_POSITION_IDENTIFIER,
        ]),
        trigger_time_ms: first_number([
            tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME,
            tags::TRIGGER_TIME,
        ]),
        acquisition: first_whole([tags::FRAME_ACQUISITION_NUMBER, tags::ACQUISITION_NUMBER]),
    }
}
