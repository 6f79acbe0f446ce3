-- Who has which study in hand, what readers did, and what they think of the findings.

-- At most one row a study. It holds while active_at is recent enough (worklist.claim_idle_minutes);
-- an older one is as good as none, and the next claim takes its place.
CREATE TABLE claim (
    study_id BIGINT PRIMARY KEY REFERENCES study (id),
    -- name of the reader's account
    reader TEXT NOT NULL,
    claimed_at BIGINT NOT NULL,
    active_at BIGINT NOT NULL
);

CREATE INDEX claim_by_reader ON claim (reader);

-- Only ever added to.
CREATE TABLE reading_event (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    -- opened, claimed, released, handed_over, read, reopened or undone
    what TEXT NOT NULL,
    -- name of the account; NULL where the server itself did it
    who TEXT,
    -- handed_over: to whom; claimed: from whom it had run out; read: 'held' where it was claimed
    detail TEXT,
    at BIGINT NOT NULL
);

CREATE INDEX reading_event_by_study ON reading_event (study_id, id);

-- Only ever added to: the last word of a reader on a finding counts.
CREATE TABLE feedback (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    -- code of the finding, as in the reasons
    finding TEXT NOT NULL,
    -- agree, disagree or comment
    verdict TEXT NOT NULL,
    comment TEXT,
    -- name of the account
    who TEXT NOT NULL,
    -- name and version of the network whose finding it was, NULL where none ran
    model TEXT,
    at BIGINT NOT NULL
);

CREATE INDEX feedback_by_study ON feedback (study_id, id);
