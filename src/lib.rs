//! `firstread`: which brain MRI should a radiologist read first?
//!
//! The folders tell the story of a study, in the order data flows:
//! received (`dicom`), kept (`intake`, `store`), measured (`volume`, `analysis`),
//! compared (`norms`), ranked (`triage`, `worklist`; what that does to waits: `simulation`),
//! reported (`report`), shown (`web`), told (`alerts`, `outbox`).
//! The map with its invariants is `docs/ARCHITECTURE.md`.
//!
//! Research use; not a medical device.

pub mod alerts;
pub mod analysis;
pub mod atna;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dicom;
pub mod fhir;
pub mod followup;
pub mod hl7;
pub mod intake;
pub mod jobs;
pub mod made;
pub mod norms;
pub mod outbox;
pub mod porch;
pub mod priors;
pub mod report;
pub mod results;
pub mod secrets;
pub mod serve;
pub mod simulation;
pub mod sso;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod triage;
pub mod validation;
pub mod volume;
pub mod web;
pub mod worklist;

/// The sentence every page, report and message carries.
pub const RESEARCH_USE: &str = "Research use; not a medical device";
