-- Processes that share this database, each with the name of its run: leases carry it, and its folder in the spool.
CREATE TABLE process (
    id {identity},
    run TEXT NOT NULL UNIQUE,
    -- the machine's name: only there a lock on the run's folder tells for certain whether it lives
    node TEXT NOT NULL,
    -- all, receiver, worker or web
    role TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- raised with every sign of life
    beats BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    -- when a worker of it was last alive; NULL where it has none
    worker_beat_at BIGINT
);

-- Run of the process that is sending it: what a living one sends is not sent by another.
ALTER TABLE delivery ADD COLUMN sent_by TEXT;

-- How often its process ended under it: that is no failure of its own, within bounds.
ALTER TABLE job ADD COLUMN interrupted BIGINT NOT NULL DEFAULT 0;

-- Series of a receiver that is gone are looked for by when their last image came.
CREATE INDEX series_recent ON series (last_received_at);
