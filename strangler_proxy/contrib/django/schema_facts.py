"""What a Django project's models say of its tables, as JSON: `python -m strangler_proxy.contrib.django.schema_facts`.

Run by `strangler sync manifest propose` with the project's own interpreter; it looks, and connects to nothing.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.db import models
from django.db.models import signals

VERSION = 1
_SIGNALS = ("pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")


def facts() -> dict[str, Any]:
    """All concrete models of the installed apps, with the tables that Django makes for many-to-many fields."""
    return {
        "version": VERSION,
        "django": django.get_version(),
        "models": [_model(each) for each in apps.get_models(include_auto_created=True) if not each._meta.proxy],
    }


def _model(model: Any) -> dict[str, Any]:
    meta = model._meta
    columns = [field for field in meta.local_concrete_fields if field.column]
    return {
        "label": meta.label,
        "app": meta.app_label,
        "table": meta.db_table.strip('"').replace('"."', "."),
        "managed": meta.managed,
        "auto_created": meta.auto_created.__name__ if meta.auto_created else "",
        "parents": [parent._meta.label for parent in meta.parents if parent._meta.concrete_model is not model],
        "key": _key(meta),
        "columns": [_column(field) for field in columns],
        "many_to_many": [_many(field) for field in meta.local_many_to_many],
        "generic": _generic(model),
        "receivers": _receivers(model),
    }


def _key(meta: Any) -> list[str]:
    fields = getattr(meta, "pk_fields", None) or [meta.pk]
    return [field.column for field in fields]


def _column(field: Any) -> dict[str, Any]:
    remote = field.remote_field
    target = field.target_field if remote is not None and hasattr(field, "target_field") else None
    choices = bool(field.choices)
    return {
        "name": field.column,
        "kind": _kind(field),
        "null": field.null,
        "unique": field.unique or field.primary_key,
        "choices": choices,
        "auto": isinstance(field, models.AutoField) or field.get_internal_type().endswith("AutoField"),
        "db_default": _has_db_default(field),
        "references": None if target is None else f"{_table(target.model)}.{target.column}",
        "references_label": "" if target is None else target.model._meta.label,
        "on_delete": "" if remote is None else getattr(getattr(remote, "on_delete", None), "__name__", ""),
        "constraint": bool(getattr(field, "db_constraint", False)),
    }


def _table(model: Any) -> str:
    return str(model._meta.db_table.strip('"').replace('"."', "."))


def _kind(field: Any) -> str:
    """The field's own class, or the Django class that it stands for."""
    for name in ("DecimalField", "FileField", "JSONField"):
        if isinstance(field, getattr(models, name)):
            return name
    return str(field.get_internal_type())


def _has_db_default(field: Any) -> bool:
    """Django 5 and later have defaults of the database."""
    default = getattr(field, "db_default", models.NOT_PROVIDED)
    return default is not models.NOT_PROVIDED


def _many(field: Any) -> dict[str, Any]:
    through = field.remote_field.through
    return {
        "name": field.name,
        "through": through._meta.label,
        "table": _table(through),
        "to": field.remote_field.model._meta.label,
        "auto_created": bool(through._meta.auto_created),
    }


def _generic(model: Any) -> list[dict[str, str]]:
    """Foreign keys to any model, without importing contenttypes where it is not installed."""
    found = []
    for field in model._meta.private_fields:
        type_field, key_field = getattr(field, "ct_field", None), getattr(field, "fk_field", None)
        if type_field and key_field:
            found.append(
                {
                    "name": field.name,
                    "type_column": model._meta.get_field(type_field).column,
                    "key_column": model._meta.get_field(key_field).column,
                }
            )
    return found


def _receivers(model: Any) -> list[dict[str, str]]:
    """Who is told of this model's signals, by the name of the function."""
    found = []
    for name in _SIGNALS:
        for receiver in _live(getattr(signals, name), model):
            where = f"{getattr(receiver, '__module__', '?')}.{getattr(receiver, '__qualname__', repr(receiver))}"
            if not where.startswith("django."):
                found.append({"signal": name, "receiver": where})
    return found


def _live(signal: Any, model: Any) -> list[Any]:
    """Receivers that name this sender; those that listen to every model are of no model."""
    wanted, found = id(model), []
    for entry in signal.receivers:
        (_, sender), reference = entry[0], entry[1]
        receiver = reference() if isinstance(reference, weakref.ReferenceType) else reference
        if sender == wanted and receiver is not None:
            found.append(receiver)
    return found


def main(arguments: list[str]) -> int:
    """Set up the project whose settings are named, and write the facts."""
    if len(arguments) != 1:
        print("usage: python -m strangler_proxy.contrib.django.schema_facts SETTINGS", file=sys.stderr)
        return 2
    sys.path.insert(0, str(Path.cwd()))
    os.environ["DJANGO_SETTINGS_MODULE"] = arguments[0]
    django.setup()
    json.dump(facts(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
