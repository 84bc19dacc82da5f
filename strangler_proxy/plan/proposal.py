"""Proposing an ownership manifest: which tables move together, in which order, and what has to be decided by people.

Pure: from the models' facts to a manifest and findings. A proposal is read and mended by a person before it is applied.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Column, Manifest, OnDelete, SoftReference, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.schema import ModelFacts

_ON_DELETE: Final = {
    "PROTECT": OnDelete.REFUSE,
    "RESTRICT": OnDelete.REFUSE,
    "CASCADE": OnDelete.EVENT,
    "SET_NULL": OnDelete.EVENT,
    "SET_DEFAULT": OnDelete.EVENT,
    "SET": OnDelete.EVENT,
    "DO_NOTHING": OnDelete.TOMBSTONE,
}
_IDEMPOTENCY: Final = re.compile(r"idempoten", re.IGNORECASE)
_GROUPS: Final = ("currency", "status", "state")


class Weight(enum.Enum):
    """How much a finding matters."""

    DECIDE = "decide"  # a person has to choose before the manifest can be used
    CHECK = "check"  # the proposal chose; see whether it fits
    NOTE = "note"  # good to know


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a table (empty: about all) that its columns do not show."""

    weight: Weight
    table: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A manifest whose two sides have the same names, and what there is to know about it."""

    manifest: Manifest
    findings: tuple[Finding, ...]


def propose(models: Sequence[ModelFacts], flag: str, chosen: Iterable[str], *, extracted: str = "") -> Proposal:
    """Propose the manifest of a flag. `chosen` are apps or labels (`app.Model`); what must move with them is added.

    Raises DeclarationError for a name that no model has.
    """
    by_label = {each.label: each for each in models}
    findings: list[Finding] = []
    moving = _complete(_chosen(models, chosen), by_label, findings)
    ordered = _parents_first(moving, findings)
    inside = {each.table for each in moving.values()}
    for model in ordered:
        _look_at(model, moving, by_label, findings)
    for model in models:
        if model.label not in moving:
            _look_from_outside(model, inside, findings)
    idempotency = next((each.table for each in ordered if _IDEMPOTENCY.search(each.label)), None)
    if idempotency is not None:
        findings.append(_note(idempotency, "taken for the table of idempotency keys: retries across a cutover need it"))
    manifest = Manifest(
        flag=flag,
        databases={Origin.MONOLITH: "monolith", Origin.EXTRACTED: extracted or flag.replace("-", "_")},
        tables=tuple(_table(each, inside) for each in ordered),
        idempotency_table=idempotency,
    )
    weights = list(Weight)
    found = sorted(dict.fromkeys(findings), key=lambda each: weights.index(each.weight))
    return Proposal(manifest=manifest, findings=tuple(found))


def _chosen(models: Sequence[ModelFacts], chosen: Iterable[str]) -> dict[str, ModelFacts]:
    found: dict[str, ModelFacts] = {}
    problems = []
    for name in chosen:
        lower = name.lower()
        mine = [each for each in models if lower in (each.app.lower(), each.label.lower())]
        if "." not in name:
            mine = [each for each in mine if not each.auto_created]
        if not mine:
            apps = ", ".join(sorted({each.app for each in models}))
            problems.append(f'no model is called "{name}", and no app: there are the apps {apps}')
        found.update({each.label: each for each in mine})
    if problems:
        raise DeclarationError(problems)
    return found


def _complete(
    moving: dict[str, ModelFacts], by_label: Mapping[str, ModelFacts], findings: list[Finding]
) -> dict[str, ModelFacts]:
    """Add what shares rows with what moves: parents and children of inheritance, tables between two that move."""
    while True:
        added: dict[str, ModelFacts] = {}
        for model in moving.values():
            for parent in model.parents:
                if parent in by_label and parent not in moving:
                    added[parent] = by_label[parent]
                    findings.append(
                        _check(
                            by_label[parent].table, f"added: {model.label} inherits from it, so a row is in both tables"
                        )
                    )
            for many in model.many_to_many:
                if many.to in moving and many.through in by_label and many.through not in moving:
                    added[many.through] = by_label[many.through]
                    findings.append(_note(many.table, f"added: joins {model.label} with {many.to}, and both move"))
        for model in by_label.values():
            inherited = [parent for parent in model.parents if parent in moving]
            if inherited and model.label not in moving:
                added[model.label] = model
                findings.append(
                    _check(model.table, f"added: it inherits from {inherited[0]}, so a row is in both tables")
                )
        if not added:
            return moving
        moving = {**moving, **added}


def _parents_first(moving: Mapping[str, ModelFacts], findings: list[Finding]) -> list[ModelFacts]:
    """Tables in an order in which foreign keys point back; a circle is broken where it is met, and told."""
    ordered: list[ModelFacts] = []
    state: dict[str, int] = {}

    def visit(model: ModelFacts) -> None:
        state[model.label] = 1
        for column in model.columns:
            target = moving.get(column.references_label)
            if target is None or target is model or state.get(target.label) == 2:
                continue
            if state.get(target.label) == 1:
                findings.append(
                    _check(
                        model.table,
                        f"{column.name} closes a circle of foreign keys with {target.table}: "
                        "make the constraint deferrable on the new side, or leave it out",
                    )
                )
                continue
            visit(target)
        state[model.label] = 2
        ordered.append(model)

    for label in sorted(moving):
        if label not in state:
            visit(moving[label])
    return ordered


def _look_at(
    model: ModelFacts, moving: Mapping[str, ModelFacts], by_label: Mapping[str, ModelFacts], findings: list[Finding]
) -> None:
    table = model.table
    if not model.managed:
        findings.append(_decide(table, "unmanaged: its columns are as the model says, which nobody has checked"))
    for column in model.columns:
        if column.references and column.references_label not in moving:
            rule = _ON_DELETE.get(column.on_delete, OnDelete.REFUSE)
            findings.append(
                _check(
                    table,
                    f"{column.name} names {column.references}, which stays: a soft reference from now on "
                    f"(on_delete {column.on_delete or 'unknown'} became {rule.value})",
                )
            )
        if column.kind == "FileField":
            findings.append(_decide(table, f"{column.name} holds names of files: the files do not move with the row"))
        if column.kind in ("BinaryField",):
            findings.append(_note(table, f"{column.name} is binary: compared and carried as hex"))
    for generic in model.generic:
        findings.append(
            _decide(
                table,
                f"{generic.name} points to any model by {generic.type_column}: ids of content types differ between "
                "databases, so map them, or leave the columns out",
            )
        )
    for many in model.many_to_many:
        if many.to not in moving:
            other = by_label[many.to].table if many.to in by_label else many.to
            findings.append(
                _decide(
                    many.table,
                    f"joins {model.label} with {many.to} ({other}), which stays: it stays too, unless you add it "
                    f"with a soft reference",
                )
            )
    for signal, receiver in model.receivers:
        findings.append(
            _decide(
                table, f"{receiver} listens to {signal}: it does not hear of rows that are applied, make it an event"
            )
        )


def _look_from_outside(model: ModelFacts, inside: set[str], findings: list[Finding]) -> None:
    for column in model.columns:
        if column.references.rpartition(".")[0] in inside:
            findings.append(
                _note(
                    model.table,
                    f"{column.name} names {column.references}, which moves: the monolith goes on reading its copy",
                )
            )
    for generic in model.generic:
        findings.append(
            _note(model.table, f"{generic.name} may point to rows that move: the monolith goes on reading its copy")
        )


def _table(model: ModelFacts, inside: set[str]) -> Table:
    names = [column.name for column in model.columns]
    money = tuple(column.name for column in model.columns if column.kind == "DecimalField")
    groups = tuple(
        column.name
        for column in model.columns
        if column.kind == "CharField" and (column.choices or column.name.rpartition("_")[2] in _GROUPS)
    )
    sequence = next((column.name for column in model.columns if column.auto), None)
    return Table(
        monolith=model.table,
        extracted=model.table,
        key=model.key,
        columns=tuple(Column(monolith=name, extracted=name) for name in names),
        sequence=sequence,
        soft_references=tuple(
            SoftReference(
                column=column.name,
                references=column.references,
                on_delete=_ON_DELETE.get(column.on_delete, OnDelete.REFUSE),
            )
            for column in model.columns
            if column.references and column.references.rpartition(".")[0] not in inside
        ),
        money=money,
        money_by=groups[:2] if money else (),
    )


def _decide(table: str, says: str) -> Finding:
    return Finding(weight=Weight.DECIDE, table=table, says=says)


def _check(table: str, says: str) -> Finding:
    return Finding(weight=Weight.CHECK, table=table, says=says)


def _note(table: str, says: str) -> Finding:
    return Finding(weight=Weight.NOTE, table=table, says=says)
