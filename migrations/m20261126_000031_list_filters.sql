-- The choices of the list's filters, counted without a look at the rows.
CREATE INDEX study_open_facets ON study (state, modality, body_part, institution, referrer) WHERE reading = 'open';

-- The list by arrival, and what was read last.
CREATE INDEX study_open_arrival ON study (arrived_at, study_uid) WHERE reading = 'open';

CREATE INDEX study_read_recent ON study (changed_at, study_uid) WHERE reading = 'read';

-- Filters that a person keeps under a name.
CREATE TABLE saved_filter (
    id {identity},
    -- name of the account
    who TEXT NOT NULL,
    name TEXT NOT NULL,
    -- as it stands in the address bar after /worklist?
    query TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (who, name)
);
