-- Whether this database is the owner's, and the fence's own error where it is not.
--
-- A write meets the fence by itself. A refusal that writes nothing ("no such payment", "in progress")
-- would not, and on the side that is not the owner it may rest on rows that are out of date. Called after such
-- rows were read: if this side is still the owner then, they were the truth. Without a record the capability has
-- never been prepared for moving, and there is nothing to ask.
CREATE FUNCTION payments_is_owner() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    may_write boolean;
BEGIN
    IF to_regclass('strangler.ownership') IS NULL THEN
        RETURN true;
    END IF;
    EXECUTE 'SELECT open FROM strangler.ownership WHERE flag = $1' INTO may_write USING 'payments';
    RETURN coalesce(may_write, true);
END
$$;

CREATE FUNCTION payments_require_owner() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT payments_is_owner() THEN
        RAISE EXCEPTION 'strangler fence: answers about "intent" are refused here'
            USING ERRCODE = 'MF001', DETAIL = '{"flag": "payments", "table": "intent"}';
    END IF;
END
$$;
