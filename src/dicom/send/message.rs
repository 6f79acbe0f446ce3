//! What all our requests are made of: command sets (PS3.7 E.1), and data sets in the syntax agreed on.

use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries;

use super::SendError;
use super::associate::command;

/// Set in the command field of a response (PS3.7 E.1).
pub(in crate::dicom) const RESPONSE: u16 = 0x8000;
/// (0000,0110) of our requests: an association carries one.
pub(in crate::dicom) const MESSAGE_ID: u16 = 1;
/// (0000,0700), medium.
const PRIORITY: u16 = 0;

/// A request of the affected SOP class `class`; `more` are elements of group 0000.
pub(in crate::dicom) fn request(
    field: u16,
    class: &str,
    more: &[(u16, &[u8])],
    has_data_set: bool,
) -> Vec<u8> {
    let (field, id) = (field.to_le_bytes(), MESSAGE_ID.to_le_bytes());
    let mut elements: Vec<(u16, &[u8])> =
        vec![(0x0002, class.as_bytes()), (0x0100, &field), (0x0110, &id)];
    elements.extend_from_slice(more);
    command(&elements, has_data_set)
}

/// The element that says how soon the peer should do it.
pub(in crate::dicom) fn priority() -> (u16, &'static [u8]) {
    const BYTES: [u8; 2] = PRIORITY.to_le_bytes();
    (0x0700, &BYTES)
}

/// The data set in the syntax that was agreed on.
///
/// # Errors
/// Where that was not offered, or the set cannot be written.
pub(in crate::dicom) fn in_syntax(
    set: &InMemDicomObject,
    syntax: &str,
) -> Result<Vec<u8>, SendError> {
    let unreadable = |e: &dyn std::fmt::Display| SendError::Unreadable(e.to_string());
    let syntax = match syntax.trim_end_matches('\0') {
        uids::EXPLICIT_VR_LITTLE_ENDIAN => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        uids::IMPLICIT_VR_LITTLE_ENDIAN => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        _ => return Err(unreadable(&"the peer chose a syntax that was not offered")),
    };
    let mut bytes = Vec::new();
    set.write_dataset_with_ts(&mut bytes, &syntax)
        .map_err(|e| unreadable(&e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_dictionary_std::tags;

    use super::*;

    #[test]
    fn a_request_has_what_was_given_and_what_all_have() {
        let bare = command(
            &[
                (0x0002, b"1.2.3"),
                (0x0100, &0x0020_u16.to_le_bytes()),
                (0x0110, &1_u16.to_le_bytes()),
                (0x0700, &0_u16.to_le_bytes()),
            ],
            true,
        );
        assert_eq!(request(0x0020, "1.2.3", &[priority()], true), bare);
    }

    #[test]
    fn a_set_is_written_as_agreed() {
        let uid = PrimitiveValue::from("1.2");
        let element = DataElement::new(tags::STUDY_INSTANCE_UID, VR::UI, uid);
        let set = InMemDicomObject::from_element_iter([element]);
        let explicit = in_syntax(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
        assert_eq!(explicit, b"\x20\0\x0d\0UI\x04\x001.2\0");
        // Some peers pad the UID.
        let implicit = in_syntax(&set, "1.2.840.10008.1.2\0").unwrap();
        assert_eq!(implicit, b"\x20\0\x0d\0\x04\0\0\x001.2\0");
        assert!(in_syntax(&set, uids::JPEG_BASELINE8_BIT).is_err());
    }
}
