-- Earlier studies that the PACS is asked for: how far that is for each study, and which are on their way.
CREATE TABLE prior_search (
    study_id BIGINT PRIMARY KEY REFERENCES study (id),
    -- waiting, done or failed
    state TEXT NOT NULL,
    -- begun
    attempts BIGINT NOT NULL,
    -- not before: the next attempt, or when one that broke off is given up
    run_after BIGINT NOT NULL,
    -- studies that fit, and those that came
    found BIGINT NOT NULL,
    moved BIGINT NOT NULL,
    -- what came of it, in words
    said TEXT,
    changed_at BIGINT NOT NULL
);

-- What arrives under these UIDs is a prior: kept, not listed.
CREATE TABLE asked_prior (
    study_uid TEXT PRIMARY KEY,
    for_study_id BIGINT NOT NULL REFERENCES study (id),
    asked_at BIGINT NOT NULL
);
