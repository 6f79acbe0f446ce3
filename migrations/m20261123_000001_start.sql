-- All moments are milliseconds since 1970-01-01T00:00:00Z. Texts named *_json hold JSON.

CREATE TABLE study (
    id {identity},
    study_uid TEXT NOT NULL UNIQUE,
    patient_id TEXT,
    patient_issuer TEXT,
    patient_name TEXT,
    birth_date TEXT,
    sex TEXT,
    age_years DOUBLE PRECISION,
    study_date TEXT,
    study_time TEXT,
    accession TEXT,
    accession_issuer TEXT,
    description TEXT,
    referrer TEXT,
    institution TEXT,
    modality TEXT,
    body_part TEXT,
    -- arrival of the first object: what waiting is counted from
    arrived_at BIGINT NOT NULL,
    last_received_at BIGINT NOT NULL,
    -- open, read or prior; only open studies are listed
    reading TEXT NOT NULL,
    -- received, screened, not_analysed or failed: about screening only
    state TEXT NOT NULL,
    not_analysed_reason TEXT,
    -- pending, done or not_done, with its own reason
    volumetry TEXT NOT NULL,
    volumetry_reason TEXT,
    looked_at TEXT,
    note TEXT,
    order_priority TEXT NOT NULL,
    -- raw evidence; minutes are derived from it, so that new settings can re-key the list
    evidence_json TEXT NOT NULL,
    ranking_json TEXT NOT NULL,
    settings_version BIGINT NOT NULL,
    head_start_ms BIGINT NOT NULL,
    -- the list's order: arrived_at - head_start_ms
    effective_arrival_ms BIGINT NOT NULL,
    band TEXT NOT NULL,
    highest_band TEXT NOT NULL,
    p_abnormal DOUBLE PRECISION,
    screened_at BIGINT,
    analysed_at BIGINT,
    changed_at BIGINT NOT NULL
);

CREATE INDEX study_open_order ON study (effective_arrival_ms, arrived_at, study_uid) WHERE reading = 'open';

CREATE INDEX study_by_accession ON study (accession);

CREATE INDEX study_by_patient ON study (patient_id, patient_issuer);

CREATE TABLE series (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    series_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL,
    modality TEXT,
    number BIGINT,
    description TEXT,
    -- SeriesTags of the first object
    header_json TEXT NOT NULL,
    -- made by this server: kept, never analysed
    own_result BOOLEAN NOT NULL,
    -- (0020,1002), or NULL where the sender does not say
    expected_images BIGINT,
    first_received_at BIGINT NOT NULL,
    last_received_at BIGINT NOT NULL,
    -- how long it must have been quiet to count as complete; doubles while slices trickle
    quiet_ms BIGINT NOT NULL,
    -- images at the moment it last counted as complete; NULL while it never did
    settled_images BIGINT,
    -- what series choice took it for, and why it was or was not used
    kind TEXT,
    kind_reason TEXT,
    UNIQUE (study_id, series_uid)
);

CREATE INDEX series_unsettled ON series (last_received_at) WHERE settled_images IS NULL;

CREATE TABLE instance (
    id {identity},
    series_id BIGINT NOT NULL REFERENCES series (id),
    sop_uid TEXT NOT NULL UNIQUE,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    instance_number BIGINT,
    frames BIGINT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    -- relative to the data folder
    path TEXT NOT NULL,
    received_at BIGINT NOT NULL
);

CREATE INDEX instance_by_series ON instance (series_id);

CREATE TABLE quarantine (
    id {identity},
    sop_uid TEXT NOT NULL,
    study_uid TEXT,
    calling_ae TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- NULL when the bytes themselves were not kept
    path TEXT,
    size_bytes BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);

CREATE TABLE job (
    id {identity},
    kind TEXT NOT NULL,
    study_id BIGINT NOT NULL REFERENCES study (id),
    run_after BIGINT NOT NULL,
    -- raised by every request; a job that was asked for again while it ran runs again
    generation BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    leased_by TEXT,
    leased_until BIGINT,
    last_error TEXT,
    UNIQUE (kind, study_id)
);

CREATE TABLE screening (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    series_uid TEXT NOT NULL,
    -- series, its images and the model: the same input is never analysed twice
    input TEXT NOT NULL,
    -- screened, not_analysed or failed
    outcome TEXT NOT NULL,
    reason TEXT,
    partial_volume BOOLEAN NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    result_json TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (study_id, series_uid)
);

CREATE TABLE imaging_order (
    id {identity},
    accession TEXT NOT NULL UNIQUE,
    priority TEXT NOT NULL,
    source TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE idempotency (
    id {identity},
    idempotency_key TEXT NOT NULL UNIQUE,
    request_digest TEXT NOT NULL,
    response_json TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE user_account (
    id {identity},
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Only digests of secrets are kept.
CREATE TABLE web_session (
    id {identity},
    digest TEXT NOT NULL UNIQUE,
    user_id BIGINT NOT NULL REFERENCES user_account (id),
    csrf TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE api_token (
    id {identity},
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE settings_version (
    id {identity},
    settings_json TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
