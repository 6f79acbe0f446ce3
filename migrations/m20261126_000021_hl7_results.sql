-- Results that go to the RIS by HL7.

-- Who gets them; written from the settings at each start.
CREATE TABLE result_destination (
    name TEXT PRIMARY KEY,
    -- obx8, segment or order: how it is told that a study moves up
    mapping TEXT NOT NULL,
    -- for people: where it is
    reached TEXT NOT NULL
);

-- The study of a delivery, and the message as it was first sent: every repeat is the same.
CREATE TABLE hl7_result (
    delivery_id BIGINT PRIMARY KEY REFERENCES delivery (id),
    study_id BIGINT NOT NULL REFERENCES study (id),
    message TEXT
);

CREATE INDEX hl7_result_by_study ON hl7_result (study_id);
