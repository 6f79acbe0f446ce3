-- Studies that were read, the last first, with all that they are filtered, sorted and searched by.
CREATE INDEX study_read_list ON study (
    changed_at, study_uid, band, state, modality, body_part, institution, referrer, description, search_text, arrived_at,
    effective_arrival_ms, id
) WHERE reading = 'read';

DROP INDEX study_read_recent;
