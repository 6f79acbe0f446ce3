-- Who saw, did and changed what: only ever added to. Each entry carries the digest of the one before it.
CREATE TABLE audit_trail (
    -- place in the chain, from 1, without gaps
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    -- user, token, peer or system
    actor_kind TEXT NOT NULL,
    role TEXT,
    from_address TEXT,
    action TEXT NOT NULL,
    -- done, refused or failed
    outcome TEXT NOT NULL,
    study_uid TEXT,
    patient_id TEXT,
    patient_issuer TEXT,
    -- what else it was about: an account, a token, a destination, a delivery
    subject TEXT,
    detail TEXT,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);

CREATE INDEX audit_trail_by_actor ON audit_trail (actor, id);

CREATE INDEX audit_trail_by_patient ON audit_trail (patient_id, id);

CREATE INDEX audit_trail_by_study ON audit_trail (study_uid, id);

CREATE INDEX audit_trail_by_action ON audit_trail (action, id);

CREATE INDEX audit_trail_by_time ON audit_trail (at, id);

-- One row: the end of the chain. Whoever adds holds it.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    digest TEXT NOT NULL
);

INSERT INTO audit_head (id, seq, digest) VALUES (1, 0, '');

{append_only:audit_trail}
