//! The report as Encapsulated PDF (PS3.3 A.45.1).

use std::collections::BTreeMap;

use dicom_dictionary_std::tags;

use super::set::Set;
use super::{CannotMake, Kind, Maker, Object, Source, begin, finish};

/// Longest title (VR ST allows more; viewers show one line).
const TITLE_CHARS_MAX: usize = 64;

/// Wraps a PDF that tells of images: of the source's and, where lesions were seen on another series, of that one's.
///
/// # Errors
/// When it cannot be written.
pub fn pdf(
    source: &Source,
    seen_on: Option<&Source>,
    maker: &Maker,
    title: &str,
    document: &[u8],
) -> Result<Object, CannotMake> {
    let mut set = begin(source, maker, Kind::Pdf.series(), 1);
    set.text(tags::CONVERSION_TYPE, "WSD");
    set.empty(tags::ACQUISITION_DATE_TIME);
    set.text(tags::BURNED_IN_ANNOTATION, "YES");
    let title: String = title.chars().take(TITLE_CHARS_MAX).collect();
    set.text(tags::DOCUMENT_TITLE, &title);
    set.empty(tags::CONCEPT_NAME_CODE_SEQUENCE);
    // type 1C: it is derived from images (PS3.3 C.24.2)
    let told_of = seen_on
        .into_iter()
        .chain([source])
        .flat_map(Source::objects);
    let references: BTreeMap<&str, Set> = told_of
        .map(|(class, instance)| (instance, Set::reference(class, instance)))
        .collect();
    set.items(
        tags::SOURCE_INSTANCE_SEQUENCE,
        references.into_values().collect(),
    );
    set.text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, "application/pdf");
    let length = u32::try_from(document.len())
        .map_err(|_| CannotMake::because("the report is too large for one object"))?;
    // An OB value is padded to even; this says where the document ends (PS3.3 C.24.2).
    set.ul(tags::ENCAPSULATED_DOCUMENT_LENGTH, &[length]);
    let mut padded = document.to_vec();
    if padded.len() % 2 == 1 {
        padded.push(0);
    }
    set.bytes(tags::ENCAPSULATED_DOCUMENT, padded);
    finish(Kind::Pdf, set)
}
