-- The rows that move (docs/reference/http-api.md, "Rows that move").
--
-- The toolkit's applier writes them in any order and upserts by primary key. So the other unique keys are
-- deferrable (an address handed from one account to another within a batch must not stop it), and there is no
-- foreign key from refresh_token to account: a token may arrive before its account.
CREATE TABLE account (
    id            bigserial PRIMARY KEY,
    email         varchar(254) NOT NULL,
    password_hash varchar(128) NOT NULL,
    name          varchar(150) NOT NULL,
    is_active     boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_email_key UNIQUE (email) DEFERRABLE INITIALLY IMMEDIATE
);

CREATE TABLE refresh_token (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id bigint NOT NULL,
    token_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT refresh_token_token_hash_key UNIQUE (token_hash) DEFERRABLE INITIALLY IMMEDIATE
);

CREATE INDEX refresh_token_account_id_idx ON refresh_token (account_id);
