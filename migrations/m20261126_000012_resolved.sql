-- What tells a destination that the alerts of an earlier delivery need nobody any more.

-- the delivery that it takes back
ALTER TABLE delivery ADD COLUMN resolves BIGINT REFERENCES delivery (id);

CREATE INDEX delivery_resolves ON delivery (resolves) WHERE resolves IS NOT NULL;
