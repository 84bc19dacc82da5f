"""The user in whose name the shop itself calls: it settles. It has no password, so nobody can sign in as it."""

from typing import Any

from django.db import migrations

EMAIL = "system@shop.example"


def make(apps: Any, schema_editor: Any) -> None:
    """Insert it."""
    apps.get_model("accounts", "User").objects.get_or_create(
        email=EMAIL, defaults={"name": "The shop", "password": "!the shop itself"}
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("shop", "0001_require_owner")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
