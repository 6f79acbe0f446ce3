//! Measurement Report: TID 1500 (PS3.16) as Comprehensive SR, with the algorithm by TID 4019.
//!
//! A structure that is a segment of our segmentation is a volumetric group (TID 1411) that refers to
//! it; sums and structures without a segment are groups of measurements (TID 1501).

use dicom_dictionary_std::{tags, uids};

use super::codes::{self, Code, site_of};
use super::set::Set;
use super::tree::{Item, Relation, root};
use super::{CannotMake, Kind, Maker, Object, Source, begin, finish};

/// A volume with its comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// As the norm table names it.
    pub structure: String,
    /// mm3
    pub volume_mm3: f64,
    /// Standard deviations from healthy people.
    pub z: Option<f64>,
    /// 0-100
    pub percentile: Option<f64>,
    /// Its segment.
    pub segment: Option<u16>,
    /// What became of it since an earlier study, in words.
    pub change: Option<String>,
}

/// What is said of all measurements.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The norms that they were compared with.
    pub norms: &'a str,
    /// What makes them doubtful; said beside each number.
    pub doubts: &'a [String],
}

/// Makes the report. `segmentation` is the object that segments refer to.
///
/// # Errors
/// Where nothing was measured, or it cannot be written.
pub fn measurement_report(
    source: &Source,
    maker: &Maker,
    measures: &[Measure],
    segmentation: Option<&Object>,
    said: Said<'_>,
) -> Result<Object, CannotMake> {
    let groups: Vec<Item> = measures
        .iter()
        .filter_map(|measure| group(source, maker, measure, segmentation, said))
        .collect();
    if groups.is_empty() {
        return Err(CannotMake::because("nothing was measured"));
    }
    let mut set = begin(source, maker, Kind::Sr.series(), 1);
    set.empty(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE);
    set.empty(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE);
    set.text(tags::COMPLETION_FLAG, "COMPLETE");
    set.text(tags::VERIFICATION_FLAG, "UNVERIFIED");
    set.text(tags::PRELIMINARY_FLAG, "PRELIMINARY");
    evidence(&mut set, source, segmentation);
    let measurements = groups.into_iter().fold(
        Item::container(Relation::Contains, codes::IMAGING_MEASUREMENTS, None),
        Item::with,
    );
    let mut children = vec![Item::code(
        Relation::HasConceptModifier,
        codes::LANGUAGE,
        codes::ENGLISH,
    )];
    children.extend(observer(maker));
    children.push(Item::code(
        Relation::HasConceptModifier,
        codes::PROCEDURE_REPORTED,
        codes::MR_OF_BRAIN,
    ));
    children.push(measurements);
    root(
        &mut set,
        codes::IMAGING_MEASUREMENT_REPORT,
        "1500",
        children,
    );
    finish(Kind::Sr, set)
}

/// TID 1002, 1004: this device.
fn observer(maker: &Maker) -> Vec<Item> {
    let context = Relation::HasObservationContext;
    let uid = format!("{}1", maker.uid_root);
    vec![
        Item::code(context, codes::OBSERVER_TYPE, codes::DEVICE),
        Item::uid(context, codes::DEVICE_UID, &uid),
        Item::text(context, codes::DEVICE_NAME, "firstread"),
        Item::text(context, codes::DEVICE_MANUFACTURER, "firstread"),
        Item::text(context, codes::DEVICE_MODEL, "firstread"),
        Item::text(context, codes::DEVICE_SERIAL, &maker.device),
    ]
}

fn group(
    source: &Source,
    maker: &Maker,
    measure: &Measure,
    segmentation: Option<&Object>,
    said: Said<'_>,
) -> Option<Item> {
    let (site, half) = site_of(&measure.structure)?;
    let segment = measure.segment.zip(segmentation);
    let template = if segment.is_some() { "1411" } else { "1501" };
    let mut group = Item::container(Relation::Contains, codes::MEASUREMENT_GROUP, Some(template));
    let context = Relation::HasObservationContext;
    let name = measure.structure.as_str();
    group.and(Item::text(context, codes::TRACKING_IDENTIFIER, name));
    let tracking = maker.uid(&source.header.study_uid, name);
    group.and(Item::uid(context, codes::TRACKING_UID, &tracking));
    group.and(Item::code(
        Relation::Contains,
        codes::FINDING,
        codes::ANATOMICAL_STRUCTURE,
    ));
    group.and(finding_site(site, half));
    for item in algorithm(maker) {
        group.and(item);
    }
    group.and(volume(measure, said.norms));
    if let Some(change) = &measure.change {
        group.and(Item::text(Relation::Contains, codes::COMMENT, change));
    }
    for doubt in said.doubts {
        let text = format!("doubtful: {doubt}");
        group.and(Item::text(Relation::Contains, codes::COMMENT, &text));
    }
    if let Some((segment, object)) = segment {
        group.and(Item::image(
            codes::REFERENCED_SEGMENT,
            uids::SEGMENTATION_STORAGE,
            &object.sop_instance_uid,
            Some(segment),
        ));
        group.and(Item::uid(
            Relation::Contains,
            codes::SOURCE_SERIES,
            &source.header.series_uid,
        ));
    } else if let Some((class, instance)) = source.objects().first() {
        group.and(Item::image(
            codes::SOURCE_OF_MEASUREMENT,
            class,
            instance,
            None,
        ));
    }
    Some(group)
}

fn finding_site(site: Code, half: Option<Code>) -> Item {
    let modifier = Relation::HasConceptModifier;
    let item = Item::code(modifier, codes::FINDING_SITE, site);
    match half {
        Some(half) => item.with(Item::code(modifier, codes::LATERALITY, half)),
        None => item,
    }
}

/// TID 4019.
fn algorithm(maker: &Maker) -> [Item; 3] {
    let modifier = Relation::HasConceptModifier;
    let (name, version) = &maker.algorithm;
    [
        Item::text(modifier, codes::ALGORITHM_NAME, name),
        Item::text(modifier, codes::ALGORITHM_VERSION, version),
        Item::text(modifier, codes::ALGORITHM_PARAMETERS, crate::RESEARCH_USE),
    ]
}

/// TID 300 with TID 310 and 311: against which people it was compared.
fn volume(measure: &Measure, norms: &str) -> Item {
    let mut item = Item::number(
        Relation::Contains,
        codes::VOLUME,
        measure.volume_mm3,
        1,
        codes::CUBIC_MILLIMETRE,
    );
    let property = Relation::HasProperties;
    if let Some(z) = measure.z {
        item.and(Item::number(
            property,
            codes::Z_SCORE,
            z,
            3,
            codes::NO_UNITS,
        ));
    }
    if let Some(percentile) = measure.percentile {
        item.and(Item::number(
            property,
            codes::PERCENTILE,
            percentile,
            3,
            codes::PERCENT,
        ));
    }
    if measure.z.is_some() {
        let people = "healthy people of the same age and sex, corrected for head size";
        item.and(Item::text(property, codes::POPULATION, people));
        item.and(Item::text(property, codes::AUTHORITY, norms));
    }
    item
}

/// Current Requested Procedure Evidence (PS3.3 C.17.2): everything the tree refers to.
fn evidence(set: &mut Set, source: &Source, segmentation: Option<&Object>) {
    let series = |uid: &str, objects: Vec<(&str, &str)>| {
        let mut series = Set::default();
        series.text(tags::SERIES_INSTANCE_UID, uid);
        let items = objects
            .into_iter()
            .map(|(class, instance)| Set::reference(class, instance));
        series.items(tags::REFERENCED_SOP_SEQUENCE, items.collect());
        series
    };
    let mut all = vec![series(&source.header.series_uid, source.objects())];
    if let Some(object) = segmentation {
        let reference = vec![(uids::SEGMENTATION_STORAGE, object.sop_instance_uid.as_str())];
        all.push(series(&object.series_uid, reference));
    }
    let mut study = Set::default();
    study.text(tags::STUDY_INSTANCE_UID, &source.header.study_uid);
    study.items(tags::REFERENCED_SERIES_SEQUENCE, all);
    set.item(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, study);
}
