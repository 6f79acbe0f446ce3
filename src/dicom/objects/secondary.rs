//! Key images as Secondary Capture (PS3.3 A.8.1), for viewers that show nothing else of ours.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::{CannotMake, Kind, Maker, Object, Source, begin, finish};

/// A colour picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyImage {
    /// What it shows, for (0020,4000).
    pub comment: String,
    /// Pixels across.
    pub columns: u16,
    /// Pixels down.
    pub rows: u16,
    /// Red, green, blue of each pixel, row by row.
    pub rgb: Vec<u8>,
    /// Directions of rows and columns in the patient, e.g. `L` and `P` (PS3.3 C.7.6.1.1.1).
    pub orientation: [&'static str; 2],
}

/// One object a picture, in one series.
///
/// # Errors
/// When a picture's size does not fit its pixels, or it cannot be written.
pub fn key_images(
    source: &Source,
    maker: &Maker,
    images: &[KeyImage],
) -> Result<Vec<Object>, CannotMake> {
    (1..)
        .zip(images)
        .map(|(number, image)| one(source, maker, image, number))
        .collect()
}

fn one(
    source: &Source,
    maker: &Maker,
    image: &KeyImage,
    number: u32,
) -> Result<Object, CannotMake> {
    let pixels = usize::from(image.columns) * usize::from(image.rows);
    if pixels == 0 || image.rgb.len() != pixels * 3 {
        return Err(CannotMake::because(
            "a key image has another size than it says",
        ));
    }
    let mut set = begin(source, maker, Kind::Sc.series(), number);
    set.texts(tags::IMAGE_TYPE, &["DERIVED", "SECONDARY"]);
    set.text(tags::CONVERSION_TYPE, "WSD");
    set.text(tags::BODY_PART_EXAMINED, "BRAIN");
    set.texts(tags::PATIENT_ORIENTATION, &image.orientation);
    set.text(tags::IMAGE_COMMENTS, &image.comment);
    set.text(
        tags::DERIVATION_DESCRIPTION,
        "outlines of what was measured",
    );
    set.text(tags::BURNED_IN_ANNOTATION, "NO");
    set.text(tags::LOSSY_IMAGE_COMPRESSION, "00");
    set.us(tags::SAMPLES_PER_PIXEL, 3);
    set.text(tags::PHOTOMETRIC_INTERPRETATION, "RGB");
    set.us(tags::PLANAR_CONFIGURATION, 0);
    set.us(tags::ROWS, image.rows);
    set.us(tags::COLUMNS, image.columns);
    let bits: [(Tag, u16); 4] = [
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ];
    for (tag, value) in bits {
        set.us(tag, value);
    }
    let mut rgb = image.rgb.clone();
    if rgb.len() % 2 == 1 {
        rgb.push(0);
    }
    set.bytes(tags::PIXEL_DATA, rgb);
    finish(Kind::Sc, set)
}
