"""A mirrored request of shadow mode is answered as the owner would: its transaction cannot commit."""

from django.db import migrations

_OWNER = """
CREATE OR REPLACE FUNCTION shop_require_owner(wanted text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    may_write boolean;
    captured  boolean := false;
BEGIN
    -- No schema or no row: the capability has never been prepared for moving, and the monolith owns it.
    IF to_regclass('strangler.ownership') IS NULL THEN
        RETURN;
    END IF;
    %(captured)s
    EXECUTE 'SELECT open FROM strangler.ownership WHERE flag = $1' INTO may_write USING wanted;
    IF NOT coalesce(may_write, true) AND NOT captured THEN
        RAISE EXCEPTION 'strangler fence: answers of "%%" are refused here', wanted
            USING ERRCODE = 'MF001', DETAIL = json_build_object('flag', wanted, 'table', '')::text;
    END IF;
END
$$;
"""
FORWARD = _OWNER % {
    "captured": """IF to_regprocedure('strangler.is_captured()') IS NOT NULL THEN
        EXECUTE 'SELECT strangler.is_captured()' INTO captured;
    END IF;"""
}
BACK = _OWNER % {"captured": ""}


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_require_owner")]
    operations = [migrations.RunSQL(FORWARD, BACK)]
