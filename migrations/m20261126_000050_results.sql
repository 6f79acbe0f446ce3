-- Our results as DICOM objects, and which delivery carries which.

CREATE TABLE result_object (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    -- network, input, versions, language: the same result is made once
    result TEXT NOT NULL,
    -- seg, sr, pdf or sc
    kind TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL UNIQUE,
    series_uid TEXT NOT NULL,
    -- relative to the data folder
    path TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX result_object_by_study ON result_object (study_id);

CREATE TABLE object_delivery (
    id {identity},
    delivery_id BIGINT NOT NULL UNIQUE REFERENCES delivery (id),
    object_id BIGINT NOT NULL REFERENCES result_object (id),
    destination TEXT NOT NULL,
    -- an object goes to a destination once
    UNIQUE (object_id, destination)
);
