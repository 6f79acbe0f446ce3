//! Content items of a structured report (PS3.3 C.17.3).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::codes::Code;
use super::set::{Set, decimal};

/// How an item belongs to the one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Contains,
    HasProperties,
    HasConceptModifier,
    HasObservationContext,
}

impl Relation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "CONTAINS",
            Self::HasProperties => "HAS PROPERTIES",
            Self::HasConceptModifier => "HAS CONCEPT MOD",
            Self::HasObservationContext => "HAS OBS CONTEXT",
        }
    }
}

/// A content item, with its children.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    set: Set,
    children: Vec<Item>,
}

impl Item {
    fn new(relation: Relation, kind: &str, name: Option<Code>) -> Self {
        let mut set = Set::default();
        set.text(tags::RELATIONSHIP_TYPE, relation.as_str());
        set.text(tags::VALUE_TYPE, kind);
        if let Some(name) = name {
            set.code(tags::CONCEPT_NAME_CODE_SEQUENCE, name);
        }
        Self {
            set,
            children: Vec::new(),
        }
    }

    pub fn container(relation: Relation, name: Code, template: Option<&str>) -> Self {
        let mut item = Self::new(relation, "CONTAINER", Some(name));
        item.set.text(tags::CONTINUITY_OF_CONTENT, "CONTINUOUS");
        if let Some(template) = template {
            item.set
                .item(tags::CONTENT_TEMPLATE_SEQUENCE, template_item(template));
        }
        item
    }

    pub fn text(relation: Relation, name: Code, value: &str) -> Self {
        let mut item = Self::new(relation, "TEXT", Some(name));
        item.set.text(tags::TEXT_VALUE, value);
        item
    }

    pub fn code(relation: Relation, name: Code, value: Code) -> Self {
        let mut item = Self::new(relation, "CODE", Some(name));
        item.set.code(tags::CONCEPT_CODE_SEQUENCE, value);
        item
    }

    pub fn uid(relation: Relation, name: Code, value: &str) -> Self {
        let mut item = Self::new(relation, "UIDREF", Some(name));
        item.set.text(tags::UID, value);
        item
    }

    /// `decimals` after the point, as `volumes.csv` has them.
    pub fn number(
        relation: Relation,
        name: Code,
        value: f64,
        decimals: usize,
        units: Code,
    ) -> Self {
        let mut item = Self::new(relation, "NUM", Some(name));
        let mut measured = Set::default();
        measured.code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, units);
        let rounded = format!("{value:.decimals$}").parse().unwrap_or(value);
        measured.text(tags::NUMERIC_VALUE, &decimal(rounded));
        item.set.item(tags::MEASURED_VALUE_SEQUENCE, measured);
        item
    }

    /// An image; of a segmentation, one segment.
    pub fn image(name: Code, class: &str, instance: &str, segment: Option<u16>) -> Self {
        let mut item = Self::new(Relation::Contains, "IMAGE", Some(name));
        let mut reference = Set::default();
        reference.text(tags::REFERENCED_SOP_CLASS_UID, class);
        reference.text(tags::REFERENCED_SOP_INSTANCE_UID, instance);
        if let Some(segment) = segment {
            reference.us(tags::REFERENCED_SEGMENT_NUMBER, segment);
        }
        item.set.item(tags::REFERENCED_SOP_SEQUENCE, reference);
        item
    }

    pub fn with(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    pub fn and(&mut self, child: Self) {
        self.children.push(child);
    }

    fn into_set(self) -> Set {
        let mut set = self.set;
        if !self.children.is_empty() {
            set.items(tags::CONTENT_SEQUENCE, sets(self.children));
        }
        set
    }
}

fn sets(items: Vec<Item>) -> Vec<Set> {
    items.into_iter().map(Item::into_set).collect()
}

fn template_item(identifier: &str) -> Set {
    let mut item = Set::default();
    item.text(tags::MAPPING_RESOURCE, "DCMR");
    item.text(tags::TEMPLATE_IDENTIFIER, identifier);
    item
}

/// Puts the root of a tree into a document.
pub(super) fn root(set: &mut Set, name: Code, template: &str, children: Vec<Item>) {
    set.text(tags::VALUE_TYPE, "CONTAINER");
    set.code(tags::CONCEPT_NAME_CODE_SEQUENCE, name);
    set.text(tags::CONTINUITY_OF_CONTENT, "CONTINUOUS");
    set.item(tags::CONTENT_TEMPLATE_SEQUENCE, template_item(template));
    let content: Tag = tags::CONTENT_SEQUENCE;
    set.items(content, sets(children));
}
