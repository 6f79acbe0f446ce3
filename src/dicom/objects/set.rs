//! A data set to be filled: values in, elements out.

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_core::header::HasLength as _;
use dicom_core::value::{C, PrimitiveValue, Value};
use dicom_core::{DataElement, Length, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;

use super::codes::Code;

/// Longest Decimal String (PS3.5 6.2, VR DS).
const DS_CHARS_MAX: usize = 16;

/// Elements of a data set, or of an item.
#[derive(Debug, Clone)]
pub(super) struct Set(InMemDicomObject);

impl Default for Set {
    fn default() -> Self {
        Self(InMemDicomObject::new_empty())
    }
}

fn vr_of(tag: Tag) -> VR {
    StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

impl Set {
    fn put(&mut self, tag: Tag, vr: VR, value: PrimitiveValue) {
        self.0.put(DataElement::new(tag, vr, value));
    }

    /// Text, UID, date, code string: by the tag's own VR.
    pub fn text(&mut self, tag: Tag, value: &str) {
        self.put(tag, vr_of(tag), PrimitiveValue::from(value));
    }

    /// Several values of one element.
    pub fn texts(&mut self, tag: Tag, values: &[&str]) {
        let all: C<String> = values.iter().map(|v| (*v).to_owned()).collect();
        self.put(tag, vr_of(tag), PrimitiveValue::Strs(all));
    }

    /// There, and without a value (Type 2).
    pub fn empty(&mut self, tag: Tag) {
        match vr_of(tag) {
            VR::SQ => self.items(tag, Vec::new()),
            vr => self.put(tag, vr, PrimitiveValue::Empty),
        }
    }

    /// The value, or an empty element where there is none.
    pub fn text_or_empty(&mut self, tag: Tag, value: Option<&str>) {
        match value.filter(|v| !v.is_empty()) {
            Some(value) => self.text(tag, value),
            None => self.empty(tag),
        }
    }

    pub fn us(&mut self, tag: Tag, value: u16) {
        self.put(tag, VR::US, PrimitiveValue::from(value));
    }

    pub fn ul(&mut self, tag: Tag, values: &[u32]) {
        self.put(
            tag,
            VR::UL,
            PrimitiveValue::U32(values.iter().copied().collect()),
        );
    }

    /// A tag as a value.
    pub fn at(&mut self, tag: Tag, value: Tag) {
        self.put(tag, VR::AT, PrimitiveValue::from(value));
    }

    pub fn bytes(&mut self, tag: Tag, value: Vec<u8>) {
        self.put(tag, VR::OB, PrimitiveValue::from(value));
    }

    /// Decimal strings.
    pub fn decimals(&mut self, tag: Tag, values: &[f64]) {
        let texts: Vec<String> = values.iter().map(|v| decimal(*v)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.texts(tag, &texts);
    }

    pub fn items(&mut self, tag: Tag, items: Vec<Self>) {
        let items: C<InMemDicomObject> = items.into_iter().map(|item| item.0).collect();
        let length = if items.is_empty() {
            Length(0)
        } else {
            Length::UNDEFINED
        };
        let value: Value<InMemDicomObject, _> = Value::new_sequence(items, length);
        self.0.put(DataElement::new_with_len(
            tag,
            VR::SQ,
            value.length(),
            value,
        ));
    }

    /// A sequence of one item.
    pub fn item(&mut self, tag: Tag, item: Self) {
        self.items(tag, vec![item]);
    }

    /// An item that refers to an object (SOP Instance Reference macro, PS3.3 table 10-11).
    pub fn reference(class: &str, instance: &str) -> Self {
        let mut item = Self::default();
        item.text(tags::REFERENCED_SOP_CLASS_UID, class);
        item.text(tags::REFERENCED_SOP_INSTANCE_UID, instance);
        item
    }

    /// A code sequence of one item (PS3.3 8.8).
    pub fn code(&mut self, tag: Tag, code: Code) {
        self.item(tag, code.set());
    }

    pub fn into_object(self) -> InMemDicomObject {
        self.0
    }
}

/// As a Decimal String of at most 16 characters.
pub(super) fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= DS_CHARS_MAX {
        return plain;
    }
    (0..=14)
        .rev()
        .map(|decimals| format!("{value:.decimals$}"))
        .find(|text| text.len() <= DS_CHARS_MAX)
        .unwrap_or_else(|| format!("{value:.8e}"))
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_fit_their_vr() {
        assert_eq!(decimal(1.5), "1.5");
        assert_eq!(decimal(-0.043_604_308_519_612_3), "-0.0436043085196");
        assert_eq!(decimal(-108.145_151_849_391_2), "-108.14515184939");
        for value in [1e-9, 1.0 / 3.0, -123_456_789.123_456_79, 1e15 / 7.0, 1e300] {
            assert!(decimal(value).len() <= 16, "{}", decimal(value));
            let back: f64 = decimal(value).parse().unwrap();
            assert!(
                (back - value).abs() <= value.abs() * 1e-6 + 1e-12,
                "{value} {back}"
            );
        }
    }
}
