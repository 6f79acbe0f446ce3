-- What a destination answered in its own words. They may name a patient: they are shown covered, and each look is kept.
ALTER TABLE delivery_message ADD COLUMN answer TEXT;

-- What earlier versions kept as what came of the last attempt may be such words.
INSERT INTO delivery_message (delivery_id, said_at, answer)
SELECT d.id, COALESCE(d.settled_at, d.created_at), d.said FROM delivery d
WHERE d.said IS NOT NULL AND d.state IN ('waiting', 'sending', 'dead')
AND d.kind NOT IN ('alert', 'alarm', 'resolved', 'test')
AND NOT EXISTS (SELECT 1 FROM delivery_message m WHERE m.delivery_id = d.id);

UPDATE delivery_message SET answer = (SELECT d.said FROM delivery d WHERE d.id = delivery_message.delivery_id)
WHERE answer IS NULL AND delivery_id IN (SELECT d.id FROM delivery d
WHERE d.said IS NOT NULL AND d.state IN ('waiting', 'sending', 'dead')
AND d.kind NOT IN ('alert', 'alarm', 'resolved', 'test'));

UPDATE delivery SET said = 'what it answered is on the page of this delivery'
WHERE said IS NOT NULL AND state IN ('waiting', 'sending', 'dead')
AND kind NOT IN ('alert', 'alarm', 'resolved', 'test');

UPDATE destination SET last_error = 'what it answered is on the pages of its deliveries'
WHERE last_error IS NOT NULL AND name IN (SELECT d.destination FROM delivery d
WHERE d.kind NOT IN ('alert', 'alarm', 'resolved', 'test'));
