-- The ledger of the card processor. Money is in cents (integers), times are Unix seconds (real).
CREATE TABLE IF NOT EXISTS charge (
    id text PRIMARY KEY,
    status text NOT NULL CHECK (status IN ('succeeded', 'declined')),
    amount_cents integer NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    reference text NOT NULL,
    created_at real NOT NULL
);
CREATE INDEX IF NOT EXISTS charge_reference ON charge (reference);

CREATE TABLE IF NOT EXISTS refund (
    id text PRIMARY KEY,
    charge_id text NOT NULL REFERENCES charge (id),
    status text NOT NULL CHECK (status IN ('succeeded', 'failed')),
    amount_cents integer NOT NULL,
    reference text NOT NULL,
    created_at real NOT NULL
);
CREATE INDEX IF NOT EXISTS refund_charge ON refund (charge_id);

-- One row per idempotency key, written in the same transaction as what it protects.
CREATE TABLE IF NOT EXISTS operation (
    idempotency_key text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('charge', 'refund')),
    fingerprint text NOT NULL,
    body text NOT NULL
);

-- Webhooks to send; kept after delivery.
CREATE TABLE IF NOT EXISTS event (
    id text PRIMARY KEY,
    kind text NOT NULL,
    body text NOT NULL,
    created_at real NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at real NOT NULL,
    delivered_at real
);
CREATE INDEX IF NOT EXISTS event_due ON event (next_attempt_at) WHERE delivered_at IS NULL;

CREATE TABLE IF NOT EXISTS switch (
    name text PRIMARY KEY,
    value text NOT NULL
);
