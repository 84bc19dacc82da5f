-- The control database. One row of `state` serialises every change; the audit log is chained and append-only.

CREATE TABLE strangler.state (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision        bigint NOT NULL DEFAULT 0,
    default_cluster text NOT NULL DEFAULT '',
    audit_count     bigint NOT NULL DEFAULT 0,
    audit_head      text NOT NULL DEFAULT '',
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO strangler.state DEFAULT VALUES;

CREATE TABLE strangler.capability (
    key        text PRIMARY KEY,
    file_name  text NOT NULL,
    file_text  text NOT NULL,
    manifest   jsonb,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL
);

-- Several capabilities may declare a cluster, if they agree about it.
CREATE TABLE strangler.cluster (
    capability text NOT NULL REFERENCES strangler.capability (key) ON DELETE CASCADE,
    name       text NOT NULL,
    position   integer NOT NULL,
    endpoints  text[] NOT NULL,
    PRIMARY KEY (capability, name)
);

CREATE TABLE strangler.flag (
    key                text PRIMARY KEY,
    stage              text NOT NULL DEFAULT 'monolith'
                       CHECK (stage IN ('monolith', 'shadow', 'canary', 'extracted', 'retired')),
    weight             integer NOT NULL DEFAULT 0 CHECK (weight BETWEEN 0 AND 10000),
    salt               text NOT NULL,
    owns_data          boolean NOT NULL DEFAULT false,
    owner              text NOT NULL DEFAULT 'monolith' CHECK (owner IN ('monolith', 'extracted')),
    owner_epoch        bigint NOT NULL DEFAULT 0,
    hold_id            text,
    hold_deadline_at   timestamptz,
    allow              text[] NOT NULL DEFAULT '{}',
    deny               text[] NOT NULL DEFAULT '{}',
    fallback_safe      boolean NOT NULL DEFAULT true,
    mirror_sample      integer NOT NULL DEFAULT 10000 CHECK (mirror_sample BETWEEN 0 AND 10000),
    replicated_through timestamptz,
    revision           bigint NOT NULL,
    changed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by         text NOT NULL,
    reason             text NOT NULL DEFAULT '',
    CHECK ((hold_id IS NULL) = (hold_deadline_at IS NULL))
);

CREATE TABLE strangler.route (
    name              text PRIMARY KEY,
    flag              text NOT NULL REFERENCES strangler.flag (key) ON DELETE CASCADE,
    position          integer NOT NULL,
    host              text NOT NULL DEFAULT '',
    path              text NOT NULL,
    methods           text[] NOT NULL DEFAULT '{}',
    headers           jsonb NOT NULL DEFAULT '[]',
    query             jsonb NOT NULL DEFAULT '[]',
    monolith_cluster  text NOT NULL,
    extracted_cluster text NOT NULL,
    timeouts          jsonb NOT NULL DEFAULT '{}',
    access            text NOT NULL DEFAULT 'public',
    retries           integer NOT NULL DEFAULT 1,
    fallback          boolean NOT NULL DEFAULT true
);

CREATE TABLE strangler.audit (
    id            bigint PRIMARY KEY,
    at            timestamptz NOT NULL,
    actor         text NOT NULL,
    verb          text NOT NULL,
    subject       text NOT NULL,
    reason        text NOT NULL,
    before        jsonb NOT NULL,
    after         jsonb NOT NULL,
    revision      bigint NOT NULL,
    previous_hash text NOT NULL,
    hash          text NOT NULL,
    xact          xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX audit_subject ON strangler.audit (subject, id);
CREATE INDEX audit_xact ON strangler.audit (xact);

CREATE TABLE strangler.proxy (
    proxy_id         text PRIMARY KEY,
    revision         bigint NOT NULL,
    unsafe_in_flight jsonb NOT NULL DEFAULT '{}',
    holding          jsonb NOT NULL DEFAULT '{}',
    refused_table    text NOT NULL DEFAULT '',
    address          text NOT NULL DEFAULT '',
    started_at       timestamptz NOT NULL,
    seen_at          timestamptz NOT NULL
);

CREATE TABLE strangler.operation (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,
    flag         text NOT NULL,
    args         jsonb NOT NULL DEFAULT '{}',
    actor        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    status       text NOT NULL DEFAULT 'queued'
                 CHECK (status IN ('queued', 'running', 'done', 'refused', 'aborted', 'failed')),
    detail       text NOT NULL DEFAULT '',
    worker       text,
    lease_until  timestamptz,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE UNIQUE INDEX operation_open ON strangler.operation (flag, kind) WHERE status IN ('queued', 'running');

CREATE TABLE strangler.operation_step (
    operation_id bigint NOT NULL REFERENCES strangler.operation (id) ON DELETE CASCADE,
    number       integer NOT NULL,
    name         text NOT NULL,
    detail       text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (operation_id, number)
);

CREATE TABLE strangler.stream (
    flag         text PRIMARY KEY REFERENCES strangler.flag (key) ON DELETE CASCADE,
    wanted       boolean NOT NULL DEFAULT false,
    status       jsonb,
    published_at timestamptz
);

CREATE TABLE strangler.lease (
    name   text PRIMARY KEY,
    worker text NOT NULL,
    until  timestamptz NOT NULL
);

CREATE FUNCTION strangler.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'strangler audit: entries are never changed or deleted' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON strangler.audit
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.refuse_audit_change();

CREATE FUNCTION strangler.require_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM strangler.audit WHERE xact = pg_current_xact_id()) THEN
        RAISE EXCEPTION 'strangler audit: % of % without an audit entry', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON strangler.state
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON strangler.capability
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON strangler.cluster
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON strangler.route
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();
-- `replicated_through` is not a switch: it alone may change without an entry.
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR DELETE OR UPDATE OF key, stage, weight, salt, owns_data, owner,
    owner_epoch, hold_id, hold_deadline_at, allow, deny, fallback_safe, mirror_sample, revision, changed_at,
    changed_by, reason ON strangler.flag
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();
