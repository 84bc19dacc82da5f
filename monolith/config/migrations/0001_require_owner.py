"""The fence's own error for answers that write nothing; see monolith/config/ownership.py."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION shop_require_owner(wanted text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    may_write boolean;
BEGIN
    -- No schema or no row: the capability has never been prepared for moving, and the monolith owns it.
    IF to_regclass('strangler.ownership') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE 'SELECT open FROM strangler.ownership WHERE flag = $1' INTO may_write USING wanted;
    IF NOT coalesce(may_write, true) THEN
        RAISE EXCEPTION 'strangler fence: answers of "%" are refused here', wanted
            USING ERRCODE = 'MF001', DETAIL = json_build_object('flag', wanted, 'table', '')::text;
    END IF;
END
$$;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunSQL(FORWARD, "DROP FUNCTION shop_require_owner(text)")]
