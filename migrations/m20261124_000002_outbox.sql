-- What must be told, and how far that went. All moments are milliseconds since 1970-01-01T00:00:00Z.

-- A study reached a band that is alerted. Written with the rank that says so.
CREATE TABLE alert (
    id {identity},
    study_id BIGINT NOT NULL REFERENCES study (id),
    band TEXT NOT NULL,
    raised_at BIGINT NOT NULL,
    -- how many steps of the escalation were handed to the outbox
    steps_done BIGINT NOT NULL,
    -- when the next step is due; NULL where there is none, or it is no longer needed
    next_step_at BIGINT,
    acknowledged_at BIGINT,
    acknowledged_by TEXT,
    -- one alert a study and band
    UNIQUE (study_id, band)
);

CREATE INDEX alert_due ON alert (next_step_at) WHERE next_step_at IS NOT NULL;

-- Where something is delivered to. What it is stands in the settings, by name.
CREATE TABLE destination (
    id {identity},
    name TEXT NOT NULL UNIQUE,
    paused_at BIGINT,
    paused_by TEXT,
    delivered_at BIGINT,
    failed_at BIGINT,
    -- attempts that failed since the last that succeeded
    failures BIGINT NOT NULL,
    last_error TEXT
);

CREATE TABLE delivery (
    id {identity},
    destination TEXT NOT NULL,
    -- alert or test
    kind TEXT NOT NULL,
    alert_id BIGINT REFERENCES alert (id),
    -- step of the escalation that asked for it
    step BIGINT,
    -- every repeat carries it again, so that a receiver knows it for the same
    dedup_key TEXT NOT NULL UNIQUE,
    -- the delivery whose message says this one too; it alone is sent
    carried_by BIGINT REFERENCES delivery (id),
    -- waiting, sending, delivered, dead or skipped
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- when it is tried next; while it is being sent: when that counts as broken off
    due_at BIGINT NOT NULL,
    -- what came of the last attempt, or why it was skipped
    said TEXT,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    -- the same step asked for twice is one delivery
    UNIQUE (alert_id, step, destination)
);

CREATE INDEX delivery_queue ON delivery (destination, id) WHERE state IN ('waiting', 'sending');

CREATE INDEX delivery_sent ON delivery (destination, settled_at) WHERE state = 'delivered';

CREATE INDEX delivery_carried ON delivery (carried_by) WHERE carried_by IS NOT NULL;

CREATE INDEX delivery_dead ON delivery (id) WHERE state = 'dead';
