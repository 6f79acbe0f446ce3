-- FHIR rest-hook subscriptions (R4 Subscription), and which study a notification is about.

CREATE TABLE fhir_subscription (
    id {identity},
    -- a search, as it was sent
    criteria TEXT NOT NULL,
    reason TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    -- media type of the body; null notifies without one
    payload TEXT,
    -- headers of each notification, sealed with the key in the data folder; null for none
    headers_sealed TEXT,
    -- their names, a JSON list: values are never shown
    header_names TEXT NOT NULL,
    -- after this moment nothing is sent
    ends_at BIGINT,
    -- name of the token
    made_by TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    removed_by TEXT,
    removed_at BIGINT
);

CREATE TABLE fhir_notice (
    delivery_id BIGINT PRIMARY KEY REFERENCES delivery (id),
    study_id BIGINT NOT NULL REFERENCES study (id)
);

CREATE INDEX fhir_notice_by_study ON fhir_notice (study_id);
