-- Destinations that administrators make on the page, in versions; what each hears of; who looked at a preview.

ALTER TABLE result_destination ADD COLUMN only_moving_up BOOLEAN NOT NULL DEFAULT FALSE;

-- Each change is a row and stays. The newest of a name is in force; one without settings ended it.
CREATE TABLE made_destination (
    id {identity},
    name TEXT NOT NULL,
    -- alert or hl7: which settings these are
    kind TEXT NOT NULL,
    -- JSON as in the settings file; secrets are only pointed to. null: it was removed
    settings_json TEXT,
    note TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

CREATE INDEX made_destination_by_name ON made_destination (name, id);

-- What a message about a study would be, shown to someone.
CREATE TABLE preview_view (
    id {identity},
    destination TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    who TEXT NOT NULL,
    -- whether what identifies the patient was shown
    uncovered BOOLEAN NOT NULL,
    at BIGINT NOT NULL
);

CREATE INDEX preview_view_by_destination ON preview_view (destination, id);
