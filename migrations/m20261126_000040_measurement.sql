-- What stage two measured in a study, and the scanners that local scans were measured for.
CREATE TABLE measurement (
    id {identity},
    study_id BIGINT NOT NULL UNIQUE REFERENCES study (id),
    -- series, images, networks, norms and person: the same input is never measured twice
    input TEXT NOT NULL,
    -- done or not_done
    outcome TEXT NOT NULL,
    reason TEXT,
    result_json TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE scanner_calibration (
    -- the version that results name
    id {identity},
    scanner TEXT NOT NULL,
    -- SHA-256 of the measuring network it was made with
    model_sha256 TEXT NOT NULL,
    scans BIGINT NOT NULL,
    calibration_json TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT
);

CREATE INDEX scanner_calibration_by_scanner ON scanner_calibration (scanner, id);
