"""The tables of outbox and inbox."""

from pathlib import Path
from typing import Any

from django.db import migrations

import strangler_proxy.contrib

SCHEMA = Path(strangler_proxy.contrib.__file__).with_name("messaging") / "schema.sql"


def make_tables(apps: Any, schema_editor: Any) -> None:
    """On PostgreSQL only: nothing else can hold them."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(SCHEMA.read_text(encoding="utf-8"), params=None)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunPython(make_tables, migrations.RunPython.noop)]
