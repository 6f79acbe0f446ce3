//! Values out of one parsed object, in plain types.

use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// Longest text kept of a label; longer ones are nonsense.
const TEXT_MAX_CHARS: usize = 256;

/// The first of the objects that has the element, and its text without padding.
pub(super) fn text(places: &[&InMemDicomObject], tag: Tag) -> Option<String> {
    places.iter().find_map(|object| {
        let values = object.get(tag)?.to_multi_str().ok()?;
        let text = values
            .iter()
            .map(|value| value.trim_matches([' ', '\0']))
            .collect::<Vec<_>>()
            .join("\\");
        let text: String = text.chars().take(TEXT_MAX_CHARS).collect();
        (!text.is_empty()).then_some(text)
    })
}

/// The first of the objects that has the element, and its numbers; non-finite ones do not count.
pub(super) fn numbers(places: &[&InMemDicomObject], tag: Tag) -> Option<Vec<f64>> {
    places.iter().find_map(|object| {
        let values = object.get(tag)?.to_multi_float64().ok()?;
        (!values.is_empty() && values.iter().all(|v| v.is_finite())).then_some(values)
    })
}

/// Like [`numbers`], the first value.
pub(super) fn number(places: &[&InMemDicomObject], tag: Tag) -> Option<f64> {
    numbers(places, tag).map(|values| values[0])
}

/// Like [`numbers`], exactly `N` values.
pub(super) fn exactly<const N: usize>(places: &[&InMemDicomObject], tag: Tag) -> Option<[f64; N]> {
    numbers(places, tag)?.try_into().ok()
}

/// The first of the objects that has the element as one whole number.
pub(super) fn whole(places: &[&InMemDicomObject], tag: Tag) -> Option<i64> {
    places
        .iter()
        .find_map(|object| object.get(tag)?.to_int::<i64>().ok())
}

/// Items of a sequence; none where it is absent.
pub(super) fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object
        .get(tag)
        .and_then(|element| element.items())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
    use dicom_dictionary_std::tags;

    #[test]
    fn values_come_from_the_first_place_that_has_them() {
        let near = InMemDicomObject::from_element_iter([DataElement::new(
            tags::ECHO_TIME,
            VR::DS,
            PrimitiveValue::from(" 2.9 "),
        )]);
        let far = InMemDicomObject::from_element_iter([
            DataElement::new(tags::ECHO_TIME, VR::DS, PrimitiveValue::from("80")),
            DataElement::new(
                tags::IMAGE_TYPE,
                VR::CS,
                dicom_value!(Strs, ["ORIGINAL", "PRIMARY "]),
            ),
        ]);
        let places = [&near, &far];
        assert_eq!(number(&places, tags::ECHO_TIME), Some(2.9));
        assert_eq!(
            text(&places, tags::IMAGE_TYPE).as_deref(),
            Some("ORIGINAL\\PRIMARY")
        );
        assert_eq!(exactly::<2>(&places, tags::ECHO_TIME), None);
        assert_eq!(whole(&places, tags::INSTANCE_NUMBER), None);
    }

    #[test]
    fn text_that_is_no_number_is_absent() {
        let object = InMemDicomObject::from_element_iter([DataElement::new(
            tags::ECHO_TIME,
            VR::DS,
            PrimitiveValue::from("NaN"),
        )]);
        assert_eq!(number(&[&object], tags::ECHO_TIME), None);
    }
}
