-- Failed sign-ins of the last minutes. They stay on this side: each side counts its own.
-- The address is kept as its sha256: what people type there need not be an address at all.
CREATE TABLE sign_in_failure (
    id          bigserial PRIMARY KEY,
    email_hash  char(64) NOT NULL,
    failed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX sign_in_failure_email_hash_idx ON sign_in_failure (email_hash, failed_at);
CREATE INDEX sign_in_failure_failed_at_idx ON sign_in_failure (failed_at);
