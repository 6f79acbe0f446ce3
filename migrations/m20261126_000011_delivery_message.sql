-- What was said to a destination, as it went out: shown to administrators, and each look is kept.

CREATE TABLE delivery_message (
    delivery_id BIGINT PRIMARY KEY REFERENCES delivery (id),
    -- when it was last said
    said_at BIGINT NOT NULL,
    message TEXT,
    -- what the destination calls it, to ask for an answer
    receipt TEXT
);

-- Who looked at which message. Rows are never changed or deleted.
CREATE TABLE message_view (
    id {identity},
    delivery_id BIGINT NOT NULL REFERENCES delivery (id),
    who TEXT NOT NULL,
    -- whether what identifies the patient was shown
    uncovered BOOLEAN NOT NULL,
    at BIGINT NOT NULL
);

CREATE INDEX message_view_of ON message_view (delivery_id);
