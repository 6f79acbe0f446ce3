-- Which settings rank now: one row. Whoever ranks reads it first, in the transaction that ranks,
-- and whoever applies others locks it: no study keeps a place by settings that were replaced.
CREATE TABLE ranking_in_force (
    id BIGINT PRIMARY KEY,
    version BIGINT NOT NULL REFERENCES settings_version (id)
);

INSERT INTO ranking_in_force (id, version) SELECT 1, id FROM settings_version ORDER BY id DESC LIMIT 1;

-- why they were changed, in the words of who did it
ALTER TABLE settings_version ADD COLUMN note TEXT;

-- The studies of the last month, for what-if.
CREATE INDEX study_by_arrival ON study (arrived_at);
