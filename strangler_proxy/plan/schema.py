"""What a project's models say of its tables, read from the JSON of `contrib.django.schema_facts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column. `references` is `table.column` of a foreign key, `on_delete` the name of Django's rule for it.

    `where` is FILE:LINE of the field; `constraint`: the database keeps the foreign key, too.
    """

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
    generated: bool = False
    constraint: bool = True
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyFacts:
    """A many-to-many field: `through` is the label of the model of its table."""

    name: str
    through: str
    table: str
    to: str
    auto_created: bool
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericFacts:
    """A foreign key to any model: a column with the type's id and one with the row's key."""

    name: str
    type_column: str
    key_column: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverFacts:
    """A function that is told of a signal, and FILE:LINE of it."""

    signal: str
    function: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFacts:
    """A signal of the project's own, of an app, and who is told."""

    app: str
    name: str
    receivers: tuple[ReceiverFacts, ...]


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
    receivers: tuple[ReceiverFacts, ...] = ()
    """Those who are told when a row is saved or deleted."""
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """All of a project."""

    models: tuple[ModelFacts, ...]
    signals: tuple[SignalFacts, ...] = ()


def read_project(document: Mapping[str, Any]) -> ProjectFacts:
    """The JSON's facts. Raises ValueError for another version or form."""
    if document.get("version") != VERSION:
        raise ValueError(f"version {document.get('version')!r} of the models' facts is not {VERSION}")
    try:
        return ProjectFacts(
            models=tuple(_model(each) for each in document["models"]),
            signals=tuple(_signal(each) for each in document["signals"]),
        )
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
        receivers=tuple(ReceiverFacts(**each) for each in one["receivers"]),
        where=one["where"],
    )


def _signal(one: Mapping[str, Any]) -> SignalFacts:
    receivers = tuple(ReceiverFacts(signal=one["name"], **each) for each in one["receivers"])
    return SignalFacts(app=one["app"], name=one["name"], receivers=receivers)


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
        generated=bool(one["generated"]),
        constraint=bool(one["constraint"]),
        where=one["where"],
    )
