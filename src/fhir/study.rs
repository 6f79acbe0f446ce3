//! `ImagingStudy`, `DiagnosticReport`, `ServiceRequest` and `Task`: one of each a study, under its UID.

use serde_json::{Value, json};

use super::{DEVICE_ID, Study, coded, issued, meta, observations, pruned, reference, subject};
use crate::triage::Band;

const DICOM_CODES: &str = "http://dicom.nema.org/resources/ontology/DCM";

fn accession(study: &Study) -> Option<&str> {
    let accession = study.detail.item.accession.as_deref();
    accession.filter(|a| !a.trim().is_empty())
}

/// Accession number as an identifier (v2-0203 ACSN).
fn accession_identifier(study: &Study) -> Value {
    accession(study).map_or(Value::Null, |value| {
        json!({
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "value": value,
        })
    })
}

fn based_on(study: &Study) -> Value {
    accession(study).map_or(Value::Null, |_| {
        json!([reference("ServiceRequest", &study.detail.item.study_uid)])
    })
}

/// `YYYY-MM-DD`, where the study says when it was made.
fn date(study: &Study) -> Option<String> {
    let date = study.detail.item.study_date.as_deref()?;
    let digits = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]))
}

/// What was received.
#[must_use]
pub fn imaging_study(study: &Study) -> Value {
    let detail = &study.detail;
    let item = &detail.item;
    let modality = |code: &str| json!({"system": DICOM_CODES, "code": code});
    let series: Vec<Value> = detail
        .series
        .iter()
        .map(|s| {
            json!({
                "uid": s.series_uid,
                "number": s.number.filter(|n| (0..=i64::from(i32::MAX)).contains(n)),
                "modality": modality(s.modality.as_deref().unwrap_or("OT")),
                "description": s.description,
                "numberOfInstances": s.images,
            })
        })
        .collect();
    pruned(json!({
        "resourceType": "ImagingStudy",
        "id": item.study_uid,
        "meta": meta(study),
        "identifier": [
            {"system": "urn:dicom:uid", "value": format!("urn:oid:{}", item.study_uid)},
            accession_identifier(study),
        ],
        "status": "available",
        "modality": item.modality.as_deref().map(|m| vec![modality(m)]),
        "subject": subject(study),
        "started": date(study),
        "basedOn": based_on(study),
        "numberOfSeries": detail.series.len(),
        "numberOfInstances": item.images,
        "description": item.description,
        "series": series,
    }))
}

/// What screening says of it. Never more than preliminary: a radiologist reports.
#[must_use]
pub fn diagnostic_report(study: &Study) -> Value {
    let item = &study.detail.item;
    let results: Vec<Value> = observations(study)
        .iter()
        .filter_map(|o| Some(reference("Observation", o["id"].as_str()?)))
        .collect();
    let reasons: Vec<String> = item
        .reasons
        .iter()
        .map(|r| format!("{} (+{:.0} min)", r.text, r.minutes))
        .collect();
    let conclusion = format!(
        "Band: {}. Ranked {:.0} min earlier. {}. {}",
        item.band.as_str(),
        item.head_start_minutes,
        reasons.join("; "),
        crate::RESEARCH_USE,
    );
    let received = item.state == "received";
    // what is not flagged has no code for it
    let flagged = !received && item.band >= Band::Elevated;
    pruned(json!({
        "resourceType": "DiagnosticReport",
        "id": item.study_uid,
        "meta": meta(study),
        "status": if received { "registered" } else { "preliminary" },
        "code": coded("SCREENING", "Brain MRI, screening"),
        "subject": subject(study),
        "basedOn": based_on(study),
        "effectiveDateTime": date(study),
        "issued": issued(study),
        "imagingStudy": [reference("ImagingStudy", &item.study_uid)],
        "result": results,
        "conclusion": conclusion,
        "conclusionCode": flagged.then(|| json!([coded(item.band.as_str(), item.band.as_str())])),
    }))
}

/// The order it is read under; `None` without an accession number.
#[must_use]
pub fn service_request(study: &Study) -> Option<Value> {
    let item = &study.detail.item;
    accession(study)?;
    let order = study.detail.orders.iter().find(|o| !o.cancelled);
    let cancelled = order.is_none() && !study.detail.orders.is_empty();
    let status = match study.detail.reading.as_str() {
        _ if cancelled => "revoked",
        "read" => "completed",
        _ => "active",
    };
    let described = order.and_then(|o| o.procedure.clone());
    Some(pruned(json!({
        "resourceType": "ServiceRequest",
        "id": item.study_uid,
        "meta": meta(study),
        "identifier": [accession_identifier(study)],
        "status": status,
        "intent": "order",
        "priority": item.order_priority,
        "code": {"text": described.or_else(|| item.description.clone()).unwrap_or_else(|| "MR".into())},
        "subject": subject(study),
    })))
}

/// Its screening as work.
#[must_use]
pub fn task(study: &Study) -> Value {
    let item = &study.detail.item;
    let status = match item.state.as_str() {
        "screened" => "completed",
        "not_analysed" => "rejected",
        "failed" => "failed",
        _ => "requested",
    };
    let report = json!([{
        "type": {"text": "report"},
        "valueReference": reference("DiagnosticReport", &item.study_uid),
    }]);
    pruned(json!({
        "resourceType": "Task",
        "id": item.study_uid,
        "meta": meta(study),
        "status": status,
        "statusReason": item.not_analysed_reason.as_deref().map(|why| json!({"text": why})),
        "intent": "order",
        "priority": item.order_priority,
        "code": coded("SCREENING", "Brain MRI, screening"),
        "focus": reference("ImagingStudy", &item.study_uid),
        "basedOn": based_on(study),
        "for": subject(study),
        "authoredOn": item.arrived_at,
        "lastModified": issued(study).unwrap_or(&item.arrived_at),
        "owner": reference("Device", DEVICE_ID),
        "output": if status == "completed" { report } else { Value::Null },
    }))
}
