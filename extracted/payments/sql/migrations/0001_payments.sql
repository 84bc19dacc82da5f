-- The rows that move (docs/reference/http-api.md, "Rows that move").
--
-- The toolkit's applier writes them in any order and upserts by primary key. So the other unique keys are
-- deferrable, there are no foreign keys (a refund may arrive before its intent), and no checks: the rules are
-- the domain's, and a row of the other side is taken as it is.
CREATE TABLE intent (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer_id         bigint NOT NULL,
    order_ref           bigint,
    amount              numeric(12, 2) NOT NULL,
    currency            char(3) NOT NULL,
    status              varchar(20) NOT NULL DEFAULT 'created',
    captured_amount     numeric(12, 2) NOT NULL DEFAULT 0,
    refunded_amount     numeric(12, 2) NOT NULL DEFAULT 0,
    card_token          varchar(64) NOT NULL,
    description         varchar(200) NOT NULL DEFAULT '',
    processor_charge_id varchar(64),
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT intent_processor_charge_id_key UNIQUE (processor_charge_id) DEFERRABLE INITIALLY IMMEDIATE
);

CREATE INDEX intent_customer_id_idx ON intent (customer_id, created_at DESC, id DESC);
CREATE INDEX intent_created_at_idx ON intent (created_at);
CREATE INDEX intent_in_doubt_idx ON intent (updated_at) WHERE status = 'capturing';

CREATE TABLE refund (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    intent_id           uuid NOT NULL,
    amount              numeric(12, 2) NOT NULL,
    status              varchar(10) NOT NULL DEFAULT 'pending',
    reason              varchar(200) NOT NULL DEFAULT '',
    processor_refund_id varchar(64),
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT refund_processor_refund_id_key UNIQUE (processor_refund_id) DEFERRABLE INITIALLY IMMEDIATE
);

CREATE INDEX refund_intent_id_idx ON refund (intent_id, created_at, id);
CREATE INDEX refund_in_doubt_idx ON refund (updated_at) WHERE status = 'pending';

CREATE TABLE idempotency_key (
    customer_id     bigint NOT NULL,
    key             varchar(255) NOT NULL,
    fingerprint     char(64) NOT NULL,
    response_status smallint,
    response_body   text,
    locked_at       timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, key)
);

CREATE TABLE webhook_event (
    id          varchar(64) PRIMARY KEY,
    kind        varchar(40) NOT NULL,
    payload     jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE settlement (
    id             bigserial PRIMARY KEY,
    date           date NOT NULL,
    currency       char(3) NOT NULL,
    captured_total numeric(14, 2) NOT NULL,
    refunded_total numeric(14, 2) NOT NULL,
    payments       integer NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT settlement_date_currency_key UNIQUE (date, currency) DEFERRABLE INITIALLY IMMEDIATE
);
