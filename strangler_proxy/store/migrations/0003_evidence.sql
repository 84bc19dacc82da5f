-- Evidence of shadow mode, rules of comparing, and what a flag asks of its evidence. Pre: code that does not know them
-- neither reads nor writes these tables and columns, and the defaults are what it did before.

-- Totals that one comparing process published on one basis (code versions of both sides, digest of the rules).
CREATE TABLE strangler.evidence_writer (
    number            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    writer            text NOT NULL,
    flag              text NOT NULL,
    control_version   text NOT NULL,
    candidate_version text NOT NULL,
    rules             text NOT NULL,
    eligible          bigint NOT NULL,
    mirrored          bigint NOT NULL,
    drops             json NOT NULL,
    rule_uses         json NOT NULL,
    published         timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (writer, flag, control_version, candidate_version, rules)
);
CREATE INDEX evidence_writer_flag ON strangler.evidence_writer (flag, published);

-- One stratum of it; `stratum` is a digest of its key. `json`, not `jsonb`: bodies may hold NUL and lone surrogates,
-- escaped, which jsonb refuses; no query looks inside.
CREATE TABLE strangler.evidence_stratum (
    number   bigint NOT NULL REFERENCES strangler.evidence_writer (number) ON DELETE CASCADE,
    stratum  text NOT NULL,
    document json NOT NULL,
    PRIMARY KEY (number, stratum)
);

CREATE TABLE strangler.evidence_sample (
    id       text PRIMARY KEY,
    flag     text NOT NULL,
    at       timestamptz NOT NULL,
    bytes    bigint NOT NULL,
    document json NOT NULL
);
CREATE INDEX evidence_sample_flag ON strangler.evidence_sample (flag, at DESC, id) INCLUDE (bytes);
CREATE INDEX evidence_sample_at ON strangler.evidence_sample (at DESC, id);

-- Digests of the paths at which a sample differs.
CREATE TABLE strangler.evidence_path (
    path   text NOT NULL,
    sample text NOT NULL REFERENCES strangler.evidence_sample (id) ON DELETE CASCADE,
    PRIMARY KEY (path, sample)
);
CREATE INDEX evidence_path_sample ON strangler.evidence_path (sample);

-- Rules that people added beside the declared ones.
CREATE TABLE strangler.compare_rule (
    flag     text NOT NULL REFERENCES strangler.flag (key) ON DELETE CASCADE,
    id       text NOT NULL,
    document json NOT NULL,
    PRIMARY KEY (flag, id)
);
CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON strangler.compare_rule
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.require_audit_entry();

-- Compare rules as the capability file declares them, and what the flag asks of its evidence.
ALTER TABLE strangler.capability ADD COLUMN judging json NOT NULL DEFAULT '{}';
