"""What a Django project's models say of its tables, as JSON: `python -m strangler_proxy.contrib.django.schema_facts`.

Run by `strangler sync manifest propose` with the project's own interpreter; it looks, and connects to nothing.
"""

from __future__ import annotations

import functools
import json
import linecache
import os
import re
import sys
import weakref
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.db import models
from django.db.models import signals
from django.dispatch import Signal

VERSION = 2
_SIGNALS = ("pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")


def facts() -> dict[str, Any]:
    """All concrete models of the installed apps, with the tables that Django makes for many-to-many fields."""
    return {
        "version": VERSION,
        "django": django.get_version(),
        "models": [_model(each) for each in apps.get_models(include_auto_created=True) if not each._meta.proxy],
        "signals": _own_signals(),
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
        "columns": [_column(field, model) for field in columns],
        "many_to_many": [_many(field, model) for field in meta.local_many_to_many],
        "generic": _generic(model),
        "receivers": _receivers(model),
        "where": _place(model),
    }


def _key(meta: Any) -> list[str]:
    fields = getattr(meta, "pk_fields", None) or [meta.pk]
    return [field.column for field in fields]


def _column(field: Any, model: Any) -> dict[str, Any]:
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
        "constraint": bool(getattr(remote, "field", None) and getattr(field, "db_constraint", False)),
        "generated": bool(getattr(field, "generated", False)),
        "where": _place(model, field.name),
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


def _many(field: Any, model: Any) -> dict[str, Any]:
    through = field.remote_field.through
    return {
        "name": field.name,
        "through": through._meta.label,
        "table": _table(through),
        "to": field.remote_field.model._meta.label,
        "auto_created": bool(through._meta.auto_created),
        "where": _place(model, field.name),
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
                    "where": _place(model, field.name),
                }
            )
    return found


def _receivers(model: Any) -> list[dict[str, str]]:
    """Who is told of this model's signals, by the name of the function."""
    found = []
    for name in _SIGNALS:
        for receiver in _live(getattr(signals, name), model):
            function = _name(receiver)
            if not function.startswith("django."):
                found.append({"signal": name, "function": function, "where": _place_of_code(receiver)})
    return found


def _own_signals() -> list[dict[str, Any]]:
    """Signals that the apps define and somebody listens to, whoever sends them."""
    found: dict[int, dict[str, Any]] = {}
    for config in apps.get_app_configs():
        inside = (config.name, config.name + ".")
        for name, module in sorted(sys.modules.items()):
            if module is None or not (name == inside[0] or name.startswith(inside[1])) or name.startswith("django."):
                continue
            for attribute, value in list(vars(module).items()):
                if type(value) is Signal and (id(value) not in found or name.endswith(".signals")):
                    heard = [receiver for receiver in _live(value, None) if not _name(receiver).startswith("django.")]
                    told = [{"function": _name(each), "where": _place_of_code(each)} for each in heard]
                    found[id(value)] = {"app": config.label, "name": f"{name}.{attribute}", "receivers": told}
    return sorted((each for each in found.values() if each["receivers"]), key=lambda each: str(each["name"]))


def _name(receiver: Any) -> str:
    return f"{getattr(receiver, '__module__', '?')}.{getattr(receiver, '__qualname__', repr(receiver))}"


def _place(model: Any, field: str = "") -> str:
    """FILE:LINE of a model's class, or of a field in it or in a class that it inherits from; empty if not found."""
    if not field:
        file, line, _ = _class_lines(model)
        return _file_line(file, line)
    assigned = re.compile(rf"\s+{re.escape(field)}\s*(:.*)?=")
    for each in model.__mro__:
        file, first, lines = _class_lines(each)
        for number, text in enumerate(lines):
            if assigned.match(text):
                return _file_line(file, first + number)
    return _place(model)


@functools.lru_cache(maxsize=None)
def _class_lines(model: Any) -> tuple[str, int, tuple[str, ...]]:
    """File, first line and text of a class; none of it for Django's own and for those made at run time."""
    module = sys.modules.get(model.__module__)
    file = getattr(module, "__file__", None)
    if file is None or model.__module__.partition(".")[0] in ("builtins", "django"):
        return "", 0, ()
    lines = linecache.getlines(file)
    begins = re.compile(rf"(\s*)class\s+{re.escape(model.__name__)}\b")
    for first, text in enumerate(lines):
        match = begins.match(text)
        if match is not None:
            depth = len(match[1])
            after = [i for i in range(first + 1, len(lines)) if _depth(lines[i]) <= depth and lines[i].strip()]
            return file, first + 1, tuple(lines[first : after[0] if after else len(lines)])
    return "", 0, ()


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _place_of_code(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return "" if code is None else _file_line(code.co_filename, code.co_firstlineno)


def _file_line(file: str, line: int) -> str:
    """As short as the project's path makes it."""
    if not file:
        return ""
    for entry in sorted({str(Path(each or ".").resolve()) for each in sys.path}, key=len, reverse=True):
        if file.startswith(entry + os.sep):
            return f"{file[len(entry) + 1 :]}:{line}"
    return f"{file}:{line}"


def _live(signal: Any, model: Any) -> list[Any]:
    """Receivers that name this sender (None: all there are); those that listen to every model are of no model."""
    wanted, found = id(model), []
    for entry in signal.receivers:
        (_, sender), reference = entry[0], entry[1]
        receiver = reference() if isinstance(reference, weakref.ReferenceType) else reference
        if (model is None or sender == wanted) and receiver is not None:
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
