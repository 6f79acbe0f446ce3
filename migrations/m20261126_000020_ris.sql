-- What the hospital's systems say: orders, final reports, patients that are one, and which messages said it.

CREATE TABLE ris_order (
    id {identity},
    -- sender and its number for the order
    order_key TEXT NOT NULL UNIQUE,
    sender TEXT NOT NULL,
    -- ORC-2 and ORC-3
    placer TEXT,
    filler TEXT,
    study_uid TEXT,
    accession TEXT,
    accession_issuer TEXT,
    patient_id TEXT,
    patient_issuer TEXT,
    -- stat, asap or routine; NULL while no message said
    priority TEXT,
    cancelled BOOLEAN NOT NULL,
    procedure_text TEXT,
    -- when its priority was said or it was cancelled
    said_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE INDEX ris_order_by_study ON ris_order (study_uid);

CREATE INDEX ris_order_by_accession ON ris_order (accession);

CREATE INDEX ris_order_by_patient ON ris_order (patient_id);

-- A final report that came before its study was complete waits here until it is.
CREATE TABLE final_report (
    id {identity},
    sender TEXT NOT NULL,
    study_uid TEXT,
    accession TEXT,
    accession_issuer TEXT,
    patient_id TEXT,
    patient_issuer TEXT,
    received_at BIGINT NOT NULL,
    -- when it marked a study read, or found it read
    applied_at BIGINT
);

CREATE INDEX final_report_by_study ON final_report (study_uid) WHERE applied_at IS NULL;

CREATE INDEX final_report_by_accession ON final_report (accession) WHERE applied_at IS NULL;

CREATE INDEX final_report_by_patient ON final_report (patient_id);

-- Images that still come under the prior identifier belong to the patient it was merged into.
CREATE TABLE patient_link (
    id {identity},
    prior_id TEXT NOT NULL,
    prior_issuer TEXT,
    patient_id TEXT NOT NULL,
    patient_issuer TEXT,
    linked_at BIGINT NOT NULL
);

CREATE INDEX patient_link_by_prior ON patient_link (prior_id);

-- A message that comes again is acknowledged again and changes nothing. Holds no message.
CREATE TABLE hl7_message (
    id {identity},
    sender TEXT NOT NULL,
    control_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    UNIQUE (sender, control_id)
);

CREATE INDEX hl7_message_by_age ON hl7_message (received_at);
