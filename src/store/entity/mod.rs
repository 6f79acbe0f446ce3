//! One file a table. The columns are explained in `migrations/`.

#![allow(
    missing_docs,
    clippy::doc_markdown,
    reason = "columns are documented where the schema is"
)]

pub mod alert;
pub mod api_token;
pub mod asked_prior;
pub mod audit;
pub mod audit_head;
pub mod audit_mark;
pub mod audit_sent;
pub mod audit_trail;
pub mod claim;
pub mod delivery;
pub mod delivery_message;
pub mod destination;
pub mod feedback;
pub mod fhir_notice;
pub mod fhir_subscription;
pub mod final_report;
pub mod follow_up;
pub mod hl7_message;
pub mod hl7_result;
pub mod idempotency;
pub mod imaging_order;
pub mod instance;
pub mod job;
pub mod login_failure;
pub mod made_destination;
pub mod measurement;
pub mod message_view;
pub mod object_delivery;
pub mod patient_link;
pub mod preview_view;
pub mod prior_search;
pub mod process;
pub mod quarantine;
pub mod ranking_in_force;
pub mod read_outcome;
pub mod reading_event;
pub mod result_destination;
pub mod result_object;
pub mod ris_order;
pub mod saved_filter;
pub mod scanner_calibration;
pub mod screening;
pub mod series;
pub mod settings_version;
pub mod shown_log;
pub mod study;
pub mod user_account;
pub mod web_session;
