-- The list filtered by band, in its order, and the counts beside the filters, without a look at the rows.
CREATE INDEX study_open_band_order ON study (band, effective_arrival_ms, arrived_at, study_uid) WHERE reading = 'open';
