-- The open list is filtered, searched and sorted within one index: rows are large.

-- what a search looks through, the patient's name first, in lower case (src/store/search.rs)
ALTER TABLE study ADD COLUMN search_text TEXT COLLATE {bytes} NOT NULL DEFAULT '';

UPDATE study SET search_text = LOWER(REPLACE(
    SUBSTR(COALESCE(patient_name, ''), 1, 80) || '
' || SUBSTR(COALESCE(patient_id, ''), 1, 32) || '
' || SUBSTR(COALESCE(accession, ''), 1, 16) || '
' || SUBSTR(COALESCE(description, ''), 1, 64) || '
' || SUBSTR(COALESCE(referrer, ''), 1, 50), '^', ' '));

DROP INDEX study_open_order;

DROP INDEX study_open_band_order;

DROP INDEX study_open_facets;

DROP INDEX study_open_arrival;

-- the list's order first; then what it is filtered, sorted, searched and counted by, and the key of the row
CREATE INDEX study_open_list ON study (
    effective_arrival_ms, arrived_at, study_uid, band, state, modality, body_part, institution, referrer, description,
    search_text, id
) WHERE reading = 'open';
