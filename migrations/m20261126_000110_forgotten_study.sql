-- Studies whose images were forgotten and whose files may still be there. Written in the transaction that forgets,
-- cleared when the files are gone: whoever starts after a crash removes what is left, and nothing else.
CREATE TABLE forgotten_study (
    id {identity},
    study_uid TEXT NOT NULL UNIQUE,
    forgotten_at BIGINT NOT NULL
);

-- Versions before this table noted the forgetting with the study alone.
INSERT INTO forgotten_study (study_uid, forgotten_at)
SELECT study_uid, 0 FROM study WHERE note = 'images removed here, as they were read';
