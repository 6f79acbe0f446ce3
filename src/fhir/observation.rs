//! `Observation`: the score of a study, and each volume.

use serde_json::{Value, json};

use super::{DEVICE_ID, Study, coded, issued, meta, pruned, reference, subject};
use crate::hl7::outbound::{RANGE, code_of, flag_of};
use crate::triage::Band;
use crate::worklist::VolumeDetail;

/// Longest id (R4 2.24.0.1).
const ID_CHARS_MAX: usize = 64;
const UNITS: &str = "http://unitsofmeasure.org";
const FLAGS: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
const CATEGORIES: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

/// The score, where there is one, then the volumes. Ids begin with the key of the study.
#[must_use]
pub fn observations(study: &Study) -> Vec<Value> {
    let item = &study.detail.item;
    let score = item.p_abnormal.map(|p| {
        let flag = match item.band {
            Band::Critical | Band::Urgent => "AA",
            Band::Elevated => "A",
            Band::Routine | Band::Pending => "",
        };
        observation(
            study,
            "SCORE",
            "Screening score",
            json!({
                "valueQuantity": {"value": rounded(p, 1_000.0), "unit": "1", "system": UNITS, "code": "1"},
                "interpretation": interpretation(flag),
            }),
        )
    });
    let volumes = study.detail.volumes.iter().map(|v| volume(study, v));
    score.into_iter().chain(volumes).collect()
}

fn volume(study: &Study, volume: &VolumeDetail) -> Value {
    let code = code_of(&volume.structure);
    let flag = volume.percentile.map_or("", flag_of);
    let percent = |value: f64| json!({"value": value, "unit": "%", "system": UNITS, "code": "%"});
    let percentile = volume.percentile.map(|p| {
        json!([{
            "code": coded("PERCENTILE", "Percentile among healthy people of the same age and sex"),
            "valueQuantity": percent(rounded(p, 10.0)),
            "interpretation": interpretation(flag),
            "referenceRange": [{"low": percent(RANGE.0), "high": percent(RANGE.1)}],
        }])
    });
    let range = volume.percentile.map(|_| {
        let text = format!(
            "{:.0}th to {:.0}th percentile of healthy people of the same age and sex",
            RANGE.0, RANGE.1
        );
        let end = |at: usize| volume.healthy_mm3.map(|range| mm3(range[at]));
        json!([{"low": end(0), "high": end(1), "text": text}])
    });
    let absent = volume.no_norm.as_deref();
    observation(
        study,
        &format!("VOL-{code}"),
        &format!("Volume of {}", volume.structure),
        json!({
            "valueQuantity": mm3(volume.volume_mm3),
            "interpretation": interpretation(flag),
            "referenceRange": range,
            "component": percentile,
            "note": absent.map(|why| json!([{"text": format!("no comparison: {why}")}])),
        }),
    )
}

fn mm3(volume: f64) -> Value {
    json!({"value": rounded(volume, 1.0), "unit": "mm3", "system": UNITS, "code": "mm3"})
}

fn observation(study: &Study, code: &str, text: &str, measured: Value) -> Value {
    let item = &study.detail.item;
    let id: String = format!("{}-{code}", study.key)
        .chars()
        .take(ID_CHARS_MAX)
        .collect();
    let mut resource = json!({
        "resourceType": "Observation",
        "id": id,
        "meta": meta(study),
        "status": "preliminary",
        "category": [{"coding": [{"system": CATEGORIES, "code": "imaging"}]}],
        "code": coded(code, text),
        "subject": subject(study),
        "issued": issued(study),
        "device": reference("Device", DEVICE_ID),
        "derivedFrom": [reference("ImagingStudy", &item.study_uid)],
    });
    if let (Some(resource), Value::Object(measured)) = (resource.as_object_mut(), measured) {
        resource.extend(measured);
    }
    pruned(resource)
}

fn interpretation(flag: &str) -> Value {
    if flag.is_empty() {
        return Value::Null;
    }
    json!([{"coding": [{"system": FLAGS, "code": flag}]}])
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
