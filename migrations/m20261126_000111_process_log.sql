-- What lies in the object log of a process without file and row, as it last told.
ALTER TABLE process ADD COLUMN log_bytes BIGINT NOT NULL DEFAULT 0;

-- when the oldest object of those was received; NULL where there is none
ALTER TABLE process ADD COLUMN log_oldest_at BIGINT;
