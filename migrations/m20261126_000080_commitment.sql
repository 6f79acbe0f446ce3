-- What a destination says of keeping an object, on whichever association it says so.

-- names the request; the report names it again
ALTER TABLE object_delivery ADD COLUMN transaction_uid TEXT;
-- requested, committed or failed; nothing where it was not asked
ALTER TABLE object_delivery ADD COLUMN commitment TEXT;
ALTER TABLE object_delivery ADD COLUMN commitment_at BIGINT;
-- how often the object was sent again because it would not be kept
ALTER TABLE object_delivery ADD COLUMN sent_again BIGINT NOT NULL DEFAULT 0;

CREATE INDEX object_delivery_by_transaction ON object_delivery (transaction_uid);
