-- A mirrored request of shadow mode runs as on the owner: its transaction never commits, and whose rows they are is not
-- what it is asked about. `strangler.is_captured` is there where the capability has been prepared for moving.
CREATE OR REPLACE FUNCTION payments_is_owner() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    captured boolean := false;
    may_write boolean;
BEGIN
    IF to_regclass('strangler.ownership') IS NULL THEN
        RETURN true;
    END IF;
    IF to_regprocedure('strangler.is_captured()') IS NOT NULL THEN
        EXECUTE 'SELECT strangler.is_captured()' INTO captured;
    END IF;
    IF captured THEN
        RETURN true;
    END IF;
    EXECUTE 'SELECT open FROM strangler.ownership WHERE flag = $1' INTO may_write USING 'payments';
    RETURN coalesce(may_write, true);
END
$$;
