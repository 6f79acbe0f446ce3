//! Segmentation (PS3.3 A.51) on the geometry of the source: one binary segment a structure, one frame
//! a slice that it is seen in.

use std::collections::BTreeMap;

use dicom_dictionary_std::tags;

use super::codes::{
    ANATOMICAL_STRUCTURE, ARTIFICIAL_INTELLIGENCE, LEFT, RIGHT, SEGMENTATION, SOURCE_IMAGE, site_of,
};
use super::set::Set;
use super::{CannotMake, Kind, Maker, Object, Series, Source, SourceImage, begin, finish};
use crate::norms::structures::STRUCTURES;
use crate::volume::Affine;
use crate::volume::affine::{Vector, add, apply, inverse, scale, subtract};

/// Most frames of one object.
const FRAMES_MAX: usize = 20_000;

/// Labels on a grid in patient space.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// Voxels along i, j, k; i is fastest.
    pub dims: [usize; 3],
    /// Voxel to RAS mm.
    pub affine: &'a Affine,
    /// FreeSurfer codes, 0 for nothing.
    pub codes: &'a [u8],
}

/// What is segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Structures of the brain, on the series that volumes were measured on.
    Structures,
    /// Lesions alone, on the series that they were seen on.
    Lesions,
}

impl Of {
    fn series(self) -> Series {
        match self {
            Self::Structures => Kind::Seg.series(),
            Self::Lesions => Series {
                key: "seg lesions",
                number: "9905",
                description: "firstread lesions (research use)",
                ..Kind::Seg.series()
            },
        }
    }

    /// (0070,0080) and (0070,0081).
    fn content(self) -> [&'static str; 2] {
        match self {
            Self::Structures => [
                "BRAIN",
                "brain structures; research use; not a medical device",
            ],
            Self::Lesions => [
                "LESIONS",
                "white matter lesions; research use; not a medical device",
            ],
        }
    }
}

/// Which segment a structure became: FreeSurfer code to segment number.
pub type Segments = BTreeMap<u8, u16>;

/// A slice of a segment.
struct Frame {
    segment: u16,
    /// Into the source's images.
    image: usize,
    /// A bit a pixel, the first in the lowest bit.
    bits: Vec<u8>,
}

/// Makes the object. Each pixel of each source image gets the label of the nearest voxel.
///
/// # Errors
/// Where the source has no frame of reference or no images in space, or nothing is labelled.
pub fn segmentation(
    source: &Source,
    maker: &Maker,
    of: Of,
    labels: &Labels<'_>,
) -> Result<(Object, Segments), CannotMake> {
    let frame_of_reference = source.frame_of_reference_uid().ok_or_else(|| {
        CannotMake::because("the images do not say which space they lie in (0020,0052)")
    })?;
    let first = source
        .images
        .first()
        .ok_or_else(|| CannotMake::because("the images do not say where they lie"))?;
    let frames = frames(source, labels)?;
    let segments = number_segments(&frames);
    let mut set = begin(source, maker, of.series(), 1);
    set.texts(tags::IMAGE_TYPE, &["DERIVED", "PRIMARY"]);
    let [label, description] = of.content();
    set.text(tags::CONTENT_LABEL, label);
    set.text(tags::CONTENT_DESCRIPTION, description);
    set.empty(tags::CONTENT_CREATOR_NAME);
    set.text(tags::FRAME_OF_REFERENCE_UID, frame_of_reference);
    set.empty(tags::POSITION_REFERENCE_INDICATOR);
    referenced_series(&mut set, source);
    dimensions(&mut set, source, maker, of);
    let geometry = &first.geometry;
    let size = |n: usize| {
        u16::try_from(n).map_err(|_| CannotMake::because("the images are too large to segment"))
    };
    set.us(tags::SAMPLES_PER_PIXEL, 1);
    set.text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2");
    set.us(tags::ROWS, size(geometry.rows)?);
    set.us(tags::COLUMNS, size(geometry.columns)?);
    for (tag, value) in [
        (tags::BITS_ALLOCATED, 1),
        (tags::BITS_STORED, 1),
        (tags::HIGH_BIT, 0),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.us(tag, value);
    }
    set.text(tags::LOSSY_IMAGE_COMPRESSION, "00");
    set.text(tags::SEGMENTATION_TYPE, "BINARY");
    set.text(tags::SEGMENTS_OVERLAP, "NO");
    segment_sequence(&mut set, source, maker, &segments);
    let frames = ordered(frames, &segments);
    set.text(tags::NUMBER_OF_FRAMES, &frames.len().to_string());
    shared_groups(&mut set, source);
    let groups = frames.iter().map(|frame| frame_groups(source, frame));
    set.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups.collect());
    let pixels = geometry.rows * geometry.columns;
    set.bytes(tags::PIXEL_DATA, packed(&frames, pixels));
    Ok((finish(Kind::Seg, set)?, segments))
}

/// A frame for each structure in each image; `segment` still holds the FreeSurfer code.
fn frames(source: &Source, labels: &Labels<'_>) -> Result<Vec<Frame>, CannotMake> {
    let [nx, ny, nz] = labels.dims;
    if labels.codes.len() != nx * ny * nz {
        return Err(CannotMake::because("the labels do not fit their grid"));
    }
    let to_index =
        inverse(labels.affine).ok_or_else(|| CannotMake::because("the labels lie in no space"))?;
    let mut frames = Vec::new();
    for (at, image) in source.images.iter().enumerate() {
        let mut found: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let g = &image.geometry;
        // DICOM's axes are LPS, the labels' are RAS.
        let ras = |v: Vector| [-v[0], -v[1], v[2]];
        let origin = apply(&to_index, ras(g.position));
        let step = |v: Vector| subtract(apply(&to_index, ras(add(g.position, v))), origin);
        let along_row = step(scale(g.along_row, g.pixel_spacing[1]));
        let down = step(scale(g.along_column, g.pixel_spacing[0]));
        for row in 0..g.rows {
            let start = add(origin, scale(down, row as f64));
            for column in 0..g.columns {
                let index = add(start, scale(along_row, column as f64));
                let code = nearest(labels, index);
                if code != 0 {
                    let bits = found
                        .entry(code)
                        .or_insert_with(|| vec![0; (g.rows * g.columns).div_ceil(8)]);
                    let at = row * g.columns + column;
                    bits[at / 8] |= 1 << (at % 8);
                }
            }
        }
        for (code, bits) in found {
            if STRUCTURES.iter().any(|s| s.0 == i64::from(code)) {
                frames.push(Frame {
                    segment: code.into(),
                    image: at,
                    bits,
                });
            }
        }
        if frames.len() > FRAMES_MAX {
            return Err(CannotMake::because("the segmentation has too many frames"));
        }
    }
    if frames.is_empty() {
        return Err(CannotMake::because("nothing was segmented in these images"));
    }
    Ok(frames)
}

fn nearest(labels: &Labels<'_>, index: Vector) -> u8 {
    let mut at = 0;
    for axis in [2, 1, 0] {
        let n = labels.dims[axis];
        let voxel = index[axis].round();
        if !(voxel >= 0.0 && voxel < n as f64) {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to lie inside the grid"
        )]
        let voxel = voxel as usize;
        at = at * n + voxel;
    }
    labels.codes[at]
}

/// Segments are numbered from 1 in the order of the norm table's structures.
fn number_segments(frames: &[Frame]) -> Segments {
    let there = |code: i64| frames.iter().any(|f| i64::from(f.segment) == code);
    (1..)
        .zip(STRUCTURES.iter().filter(|s| there(s.0)))
        .filter_map(|(number, s)| Some((u8::try_from(s.0).ok()?, number)))
        .collect()
}

/// By segment, then along the stack; codes become segment numbers.
fn ordered(mut frames: Vec<Frame>, segments: &Segments) -> Vec<Frame> {
    for frame in &mut frames {
        let code = u8::try_from(frame.segment).unwrap_or(0);
        frame.segment = segments.get(&code).copied().unwrap_or(0);
    }
    frames.sort_by_key(|frame| (frame.segment, frame.image));
    frames
}

/// Bits of all frames without gaps between them (PS3.5 8.1.1).
fn packed(frames: &[Frame], pixels: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; (frames.len() * pixels).div_ceil(16) * 2];
    if pixels.is_multiple_of(8) {
        for (frame, at) in frames.iter().zip((0..).step_by(pixels / 8)) {
            bytes[at..at + pixels / 8].copy_from_slice(&frame.bits);
        }
        return bytes;
    }
    for (number, frame) in frames.iter().enumerate() {
        for pixel in (0..pixels).filter(|p| frame.bits[p / 8] >> (p % 8) & 1 == 1) {
            let at = number * pixels + pixel;
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
    bytes
}

/// Common Instance Reference module (PS3.3 C.12.2).
fn referenced_series(set: &mut Set, source: &Source) {
    let mut series = Set::default();
    series.text(tags::SERIES_INSTANCE_UID, &source.header.series_uid);
    let objects = source.objects();
    let items = objects
        .iter()
        .map(|(class, uid)| Set::reference(class, uid));
    series.items(tags::REFERENCED_INSTANCE_SEQUENCE, items.collect());
    set.item(tags::REFERENCED_SERIES_SEQUENCE, series);
}

/// Frames are indexed by segment and position (PS3.3 C.7.6.17).
fn dimensions(set: &mut Set, source: &Source, maker: &Maker, of: Of) {
    let what = match of {
        Of::Structures => "dimensions",
        Of::Lesions => "dimensions of lesions",
    };
    let uid = maker.uid(&source.header.study_uid, what);
    let mut organization = Set::default();
    organization.text(tags::DIMENSION_ORGANIZATION_UID, &uid);
    set.item(tags::DIMENSION_ORGANIZATION_SEQUENCE, organization);
    let index = |pointer, group, label: &str| {
        let mut item = Set::default();
        item.text(tags::DIMENSION_ORGANIZATION_UID, &uid);
        item.at(tags::DIMENSION_INDEX_POINTER, pointer);
        item.at(tags::FUNCTIONAL_GROUP_POINTER, group);
        item.text(tags::DIMENSION_DESCRIPTION_LABEL, label);
        item
    };
    set.items(
        tags::DIMENSION_INDEX_SEQUENCE,
        vec![
            index(
                tags::REFERENCED_SEGMENT_NUMBER,
                tags::SEGMENT_IDENTIFICATION_SEQUENCE,
                "Referenced Segment Number",
            ),
            index(
                tags::IMAGE_POSITION_PATIENT,
                tags::PLANE_POSITION_SEQUENCE,
                "Image Position Patient",
            ),
        ],
    );
}

fn segment_sequence(set: &mut Set, source: &Source, maker: &Maker, segments: &Segments) {
    let mut numbered: Vec<(u8, u16)> = segments.iter().map(|(c, n)| (*c, *n)).collect();
    numbered.sort_by_key(|(_, number)| *number);
    let items = numbered.into_iter().filter_map(|(code, number)| {
        let (_, name, _) = STRUCTURES.iter().find(|s| s.0 == i64::from(code))?;
        let (site, half) = site_of(name)?;
        let mut item = Set::default();
        item.us(tags::SEGMENT_NUMBER, number);
        item.text(tags::SEGMENT_LABEL, name);
        item.text(tags::SEGMENT_ALGORITHM_TYPE, "AUTOMATIC");
        item.text(tags::SEGMENT_ALGORITHM_NAME, &maker.algorithm.0);
        let mut algorithm = Set::default();
        algorithm.code(
            tags::ALGORITHM_FAMILY_CODE_SEQUENCE,
            ARTIFICIAL_INTELLIGENCE,
        );
        algorithm.text(tags::ALGORITHM_NAME, &maker.algorithm.0);
        algorithm.text(tags::ALGORITHM_VERSION, &maker.algorithm.1);
        item.item(
            tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE,
            algorithm,
        );
        item.code(
            tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE,
            ANATOMICAL_STRUCTURE,
        );
        let mut kind = site.set();
        if let Some(half) = half.filter(|half| [LEFT, RIGHT].contains(half)) {
            kind.code(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, half);
        }
        item.item(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, kind);
        item.text(tags::TRACKING_ID, name);
        item.text(
            tags::TRACKING_UID,
            &maker.uid(&source.header.study_uid, name),
        );
        Some(item)
    });
    let items = items.collect();
    set.items(tags::SEGMENT_SEQUENCE, items);
}

/// What all frames share: orientation and voxel size.
fn shared_groups(set: &mut Set, source: &Source) {
    let Some(first) = source.images.first() else {
        return;
    };
    let g = &first.geometry;
    let mut orientation = Set::default();
    let both: Vec<f64> = g.along_row.iter().chain(&g.along_column).copied().collect();
    orientation.decimals(tags::IMAGE_ORIENTATION_PATIENT, &both);
    let mut measures = Set::default();
    let normal = g.normal();
    let mut gaps: Vec<f64> = source
        .images
        .windows(2)
        .map(|pair| pair[1].geometry.height(normal) - pair[0].geometry.height(normal))
        .collect();
    gaps.sort_by(f64::total_cmp);
    let thickness = source.header.series.slice_thickness_mm;
    let gap = gaps
        .get(gaps.len() / 2)
        .copied()
        .or(thickness)
        .unwrap_or(1.0);
    measures.decimals(tags::SLICE_THICKNESS, &[thickness.unwrap_or(gap)]);
    measures.decimals(tags::SPACING_BETWEEN_SLICES, &[gap]);
    measures.decimals(tags::PIXEL_SPACING, &g.pixel_spacing);
    let mut group = Set::default();
    group.item(tags::PLANE_ORIENTATION_SEQUENCE, orientation);
    group.item(tags::PIXEL_MEASURES_SEQUENCE, measures);
    set.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, group);
}

fn frame_groups(source: &Source, frame: &Frame) -> Set {
    let mut group = Set::default();
    let Some(image) = source.images.get(frame.image) else {
        return group;
    };
    group.item(tags::DERIVATION_IMAGE_SEQUENCE, derivation(image));
    let mut content = Set::default();
    let position = u32::try_from(frame.image + 1).unwrap_or(u32::MAX);
    content.ul(
        tags::DIMENSION_INDEX_VALUES,
        &[frame.segment.into(), position],
    );
    group.item(tags::FRAME_CONTENT_SEQUENCE, content);
    let mut place = Set::default();
    place.decimals(tags::IMAGE_POSITION_PATIENT, &image.geometry.position);
    group.item(tags::PLANE_POSITION_SEQUENCE, place);
    let mut segment = Set::default();
    segment.us(tags::REFERENCED_SEGMENT_NUMBER, frame.segment);
    group.item(tags::SEGMENT_IDENTIFICATION_SEQUENCE, segment);
    group
}

fn derivation(image: &SourceImage) -> Set {
    let mut from = Set::reference(&image.sop_class_uid, &image.sop_instance_uid);
    if let Some(frame) = image.frame {
        from.text(tags::REFERENCED_FRAME_NUMBER, &frame.to_string());
    }
    from.text(tags::SPATIAL_LOCATIONS_PRESERVED, "YES");
    from.code(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, SOURCE_IMAGE);
    let mut derivation = Set::default();
    derivation.item(tags::SOURCE_IMAGE_SEQUENCE, from);
    derivation.code(tags::DERIVATION_CODE_SEQUENCE, SEGMENTATION);
    derivation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_packed_without_gaps() {
        let frame = |bits: &[u8]| Frame {
            segment: 1,
            image: 0,
            bits: bits.to_vec(),
        };
        // 3 x 3 pixels: the second frame begins in the middle of a byte
        let frames = [frame(&[0b1000_0001, 1]), frame(&[0b0000_0010, 0])];
        assert_eq!(packed(&frames, 9), [0b1000_0001, 0b0000_0101, 0, 0]);
        // 2 x 4 pixels: whole bytes
        let frames = [frame(&[0b1000_0001]), frame(&[0b0000_0010])];
        assert_eq!(packed(&frames, 8), [0b1000_0001, 0b0000_0010]);
    }
}
