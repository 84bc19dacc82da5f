"""What a project's models say of its tables, read from the JSON of `contrib.django.schema_facts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column. `references` is `table.column` of a foreign key, `on_delete` the name of Django's rule for it."""

    name: str
    kind: str
    null: bool = False
    unique: bool = False
    choices: bool = False
    auto: bool = False
    db_default: bool = False
    references: str = ""
    references_label: str = ""
    on_delete: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyFacts:
    """A many-to-many field: `through` is the label of the model of its table."""

    name: str
    through: str
    table: str
    to: str
    auto_created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericFacts:
    """A foreign key to any model: a column with the type's id and one with the row's key."""

    name: str
    type_column: str
    key_column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model with a table of its own. `parents` are models whose row is part of this one's (inheritance)."""

    label: str
    app: str
    table: str
    key: tuple[str, ...]
    columns: tuple[ColumnFacts, ...]
    managed: bool = True
    auto_created: bool = False
    parents: tuple[str, ...] = ()
    many_to_many: tuple[ManyFacts, ...] = ()
    generic: tuple[GenericFacts, ...] = ()
    receivers: tuple[tuple[str, str], ...] = ()
    """Signal and function of those who are told when a row is saved or deleted."""


def read_schema(document: Mapping[str, Any]) -> tuple[ModelFacts, ...]:
    """Models of the JSON. Raises ValueError for another version or form."""
    if document.get("version") != VERSION:
        raise ValueError(f"version {document.get('version')!r} of the models' facts is not {VERSION}")
    try:
        return tuple(_model(each) for each in document["models"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the models' facts have another form: {error!r}") from error


def _model(one: Mapping[str, Any]) -> ModelFacts:
    return ModelFacts(
        label=one["label"],
        app=one["app"],
        table=one["table"],
        key=tuple(one["key"]),
        columns=tuple(_column(each) for each in one["columns"]),
        managed=bool(one["managed"]),
        auto_created=bool(one["auto_created"]),
        parents=tuple(one["parents"]),
        many_to_many=tuple(ManyFacts(**each) for each in one["many_to_many"]),
        generic=tuple(GenericFacts(**each) for each in one["generic"]),
        receivers=tuple((each["signal"], each["receiver"]) for each in one["receivers"]),
    )


def _column(one: Mapping[str, Any]) -> ColumnFacts:
    return ColumnFacts(
        name=one["name"],
        kind=one["kind"],
        null=bool(one["null"]),
        unique=bool(one["unique"]),
        choices=bool(one["choices"]),
        auto=bool(one["auto"]),
        db_default=bool(one["db_default"]),
        references=one["references"] or "",
        references_label=one["references_label"] or "",
        on_delete=one["on_delete"] or "",
    )
