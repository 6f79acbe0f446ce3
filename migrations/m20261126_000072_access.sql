-- local, or oidc: who says that it is this person
ALTER TABLE user_account ADD COLUMN origin TEXT NOT NULL DEFAULT 'local';

-- of oidc: issuer and subject, which never change
ALTER TABLE user_account ADD COLUMN subject TEXT;

ALTER TABLE user_account ADD COLUMN disabled_at BIGINT;

-- the password was set by somebody else
ALTER TABLE user_account ADD COLUMN must_change BOOLEAN NOT NULL DEFAULT FALSE;

ALTER TABLE user_account ADD COLUMN signed_in_at BIGINT;

CREATE UNIQUE INDEX user_account_by_subject ON user_account (subject);

-- words separated by spaces; NULL for all that its role may
ALTER TABLE api_token ADD COLUMN scopes TEXT;

ALTER TABLE api_token ADD COLUMN expires_at BIGINT;

ALTER TABLE api_token ADD COLUMN used_at BIGINT;

ALTER TABLE api_token ADD COLUMN created_by TEXT;

-- Failed sign-ins in a row, by the digest of the name that was typed, whether there is such an account or not.
CREATE TABLE login_failure (
    id {identity},
    name_digest TEXT NOT NULL UNIQUE,
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);
