-- What a study was read as: by a reader who said so, or by the flags of a final report. Only ever added to.
CREATE TABLE read_outcome (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    -- unremarkable or abnormal
    outcome TEXT NOT NULL,
    -- name of the account; NULL where a report says so
    who TEXT,
    -- sender of the report
    sender TEXT,
    at BIGINT NOT NULL
);

CREATE INDEX read_outcome_by_study ON read_outcome (study_id, id);

-- what the abnormal flags of a report that waits say; NULL where they say nothing
ALTER TABLE final_report ADD COLUMN outcome TEXT;
