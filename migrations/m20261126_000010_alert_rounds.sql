-- An alert goes round again when the reader who took its study gave it up, or left it until the claim ran out.

-- the rule of the settings that it follows; empty is the general one
ALTER TABLE alert ADD COLUMN rule TEXT NOT NULL DEFAULT '';

-- when the steps of the present round began to count; NULL in rows that are older than rounds: raised_at
ALTER TABLE alert ADD COLUMN round_at BIGINT;

-- steps that earlier rounds had handed to the outbox: steps are numbered through all rounds
ALTER TABLE alert ADD COLUMN round_steps BIGINT NOT NULL DEFAULT 0;

-- by how much the steps of this round come earlier: someone who was told could not look
ALTER TABLE alert ADD COLUMN hurried_ms BIGINT NOT NULL DEFAULT 0;

-- the reader who has the study in hand, and since when: nobody else is told meanwhile
ALTER TABLE alert ADD COLUMN taken_at BIGINT;

ALTER TABLE alert ADD COLUMN taken_by TEXT;
