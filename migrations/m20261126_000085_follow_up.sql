-- A measured study against the earlier one of its patient that it is best compared with.
CREATE TABLE follow_up (
    study_id BIGINT PRIMARY KEY REFERENCES study (id),
    -- why it was not compared, where there are earlier ones
    reason TEXT,
    -- the comparison, where there is one
    result_json TEXT,
    created_at BIGINT NOT NULL
);
