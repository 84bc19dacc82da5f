-- What the toolkit's own role makes in a data database, as docs/reference/wire.md has it; here for one table.
CREATE SCHEMA strangler;
CREATE TABLE strangler.ownership (
    flag text PRIMARY KEY, origin text NOT NULL, owner text NOT NULL, epoch bigint NOT NULL, open boolean NOT NULL,
    replicated_through timestamptz, changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE parcel (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE note (id bigserial PRIMARY KEY, text text NOT NULL);
CREATE FUNCTION strangler.fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'MF001',
        MESSAGE = format('strangler fence: writes to "%s" are refused here', TG_TABLE_NAME),
        DETAIL = json_build_object('flag', 'parcels', 'table', TG_TABLE_NAME)::text;
END $$;
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE ON parcel FOR EACH STATEMENT EXECUTE FUNCTION strangler.fence();
ALTER TABLE parcel DISABLE TRIGGER fence;
