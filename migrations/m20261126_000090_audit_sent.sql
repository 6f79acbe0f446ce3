-- One row: how far the audit trail went to the site's audit record repository.
CREATE TABLE audit_sent (
    id BIGINT PRIMARY KEY,
    -- entries up to this one were taken
    seq BIGINT NOT NULL,
    sent_at BIGINT,
    -- what is in the way, in words, and since when
    problem TEXT,
    problem_since BIGINT
);

INSERT INTO audit_sent (id, seq) VALUES (1, 0);
