-- A random sample of studies that were read, put to another reader who is not told what was said of them.
CREATE TABLE audit (
    study_id BIGINT PRIMARY KEY REFERENCES study (id),
    drawn_at BIGINT NOT NULL,
    -- when it had been read, and by whom
    read_at BIGINT NOT NULL,
    first_reader TEXT,
    -- some that were flagged are among them, so that being asked says nothing
    flagged BOOLEAN NOT NULL,
    -- name and version of the network
    model TEXT,
    -- the answer: by whom, nothing or something, in which words
    who TEXT,
    verdict TEXT,
    comment TEXT,
    answered_at BIGINT
);

CREATE INDEX audit_waiting ON audit (drawn_at) WHERE answered_at IS NULL;

-- Up to which moment of reading the sample was drawn: one row.
CREATE TABLE audit_mark (
    id BIGINT PRIMARY KEY,
    read_until BIGINT NOT NULL
);

CREATE INDEX feedback_by_time ON feedback (at);

-- What was shown to whom and when. Only ever added to, and cut after a time (worklist.shown_log_days).
CREATE TABLE shown_log (
    id {identity},
    at BIGINT NOT NULL,
    -- name of the account
    who TEXT NOT NULL,
    -- list, study or audit
    what TEXT NOT NULL,
    -- NULL for a list
    study_id BIGINT,
    -- the list, as its address has it
    query TEXT,
    -- version of the ranking settings
    settings_version BIGINT NOT NULL,
    -- place, band, head start: of a study, or of each row of a list
    shown_json TEXT NOT NULL
);

CREATE INDEX shown_log_by_time ON shown_log (at);

CREATE INDEX shown_log_by_study ON shown_log (study_id, at);
