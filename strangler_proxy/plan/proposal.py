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
from strangler_proxy.plan.schema import ColumnFacts, ModelFacts, ProjectFacts, SignalFacts

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
_NAMES_A_ROW: Final = re.compile(r"_(?:id|pk|uuid)$")
_KEY_KINDS: Final = frozenset(
    {"IntegerField", "BigIntegerField", "PositiveIntegerField", "PositiveBigIntegerField", "SmallIntegerField",
     "PositiveSmallIntegerField", "UUIDField", "CharField"}
)  # fmt: skip


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
    where: str = ""
    """FILE:LINE in the project's code, as it imports it; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A manifest whose two sides have the same names, and what there is to know about it."""

    manifest: Manifest
    findings: tuple[Finding, ...]


def propose_for(project: ProjectFacts, flag: str, chosen: Iterable[str], *, extracted: str = "") -> Proposal:
    """Propose the manifest of a flag, and tell of the project's own signals, too. Raises as `propose` does."""
    proposal = propose(project.models, flag, chosen, extracted=extracted)
    tables = {table.monolith for table in proposal.manifest.tables}
    apps = {model.app for model in project.models if model.table in tables}
    told = tuple(finding for signal in project.signals if signal.app in apps for finding in _heard(signal))
    return Proposal(manifest=proposal.manifest, findings=_by_weight((*proposal.findings, *told)))


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
    return Proposal(manifest=manifest, findings=_by_weight(findings))


def _by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    weights = list(Weight)
    return tuple(sorted(dict.fromkeys(findings), key=lambda each: weights.index(each.weight)))


def _heard(signal: SignalFacts) -> Iterable[Finding]:
    for receiver in signal.receivers:
        yield _check(
            "",
            f"{receiver.function} listens to {signal.name}: if the code that sends it moves, make it an event",
            receiver.where,
        )


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
                            by_label[parent].table,
                            f"added: {model.label} inherits from it, so a row is in both tables",
                            model.where,
                        )
                    )
            for many in model.many_to_many:
                if many.to in moving and many.through in by_label and many.through not in moving:
                    added[many.through] = by_label[many.through]
                    findings.append(
                        _note(many.table, f"added: joins {model.label} with {many.to}, and both move", many.where)
                    )
        for model in by_label.values():
            inherited = [parent for parent in model.parents if parent in moving]
            if inherited and model.label not in moving:
                added[model.label] = model
                findings.append(
                    _check(
                        model.table, f"added: it inherits from {inherited[0]}, so a row is in both tables", model.where
                    )
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
                        "make the constraint deferrable on the new side, and add it once the copy is live",
                        column.where,
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
        findings.append(
            _decide(table, "unmanaged: its columns are as the model says, which nobody has checked", model.where)
        )
    for column in model.columns:
        findings += _of_column(table, column, moving, model.key)
    for generic in model.generic:
        findings.append(
            _decide(
                table,
                f"{generic.name} points to any model by {generic.type_column}: ids of content types differ between "
                "databases, so map them, or leave the columns out",
                generic.where,
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
                    many.where,
                )
            )
    for receiver in model.receivers:
        findings.append(
            _decide(
                table,
                f"{receiver.function} listens to {receiver.signal}: it does not hear of rows that are applied, "
                "make it an event",
                receiver.where,
            )
        )


def _of_column(
    table: str, column: ColumnFacts, moving: Mapping[str, ModelFacts], key: Sequence[str]
) -> Iterable[Finding]:
    name = column.name
    if column.references and column.references_label not in moving:
        rule = _ON_DELETE.get(column.on_delete, OnDelete.REFUSE)
        yield _check(
            table,
            f"{name} names {column.references}, which stays: a soft reference from now on "
            f"(on_delete {column.on_delete or 'unknown'} became {rule.value})",
            column.where,
        )
    if not column.references and name not in key and _NAMES_A_ROW.search(name) and column.kind in _KEY_KINDS:
        yield _check(
            table,
            f"{name} looks like the key of a row elsewhere and is no foreign key: nothing checks it; "
            "if it names a row that stays, add a soft reference",
            column.where,
        )
    if column.kind == "FileField":
        yield _decide(table, f"{name} holds names of files: the files do not move with the row", column.where)
    if column.kind == "BinaryField":
        yield _note(table, f"{name} is binary: compared and carried as hex", column.where)
    if column.generated:
        yield _note(table, f"{name} is generated by the database, so left out: each side makes its own", column.where)


def _look_from_outside(model: ModelFacts, inside: set[str], findings: list[Finding]) -> None:
    for column in model.columns:
        if column.references.rpartition(".")[0] in inside:
            findings.append(_named_from_outside(model, column))
    for generic in model.generic:
        findings.append(
            _note(
                model.table,
                f"{generic.name} may point to rows that move: the monolith goes on reading its copy",
                generic.where,
            )
        )


def _named_from_outside(model: ModelFacts, column: ColumnFacts) -> Finding:
    says = f"{column.name} names {column.references}, which moves: the monolith goes on reading its copy"
    if not column.constraint:
        return _note(model.table, says, column.where)
    says += ". Its foreign key refuses a row that the new side deleted while a row here names it: that key gets stuck"
    if column.on_delete == "CASCADE" and not column.null:
        says += (
            f". Such rows live and die together: move it too (--app {model.label}), or have an event delete it first"
        )
    return _check(model.table, says, column.where)


def _table(model: ModelFacts, inside: set[str]) -> Table:
    names = [column.name for column in model.columns if not column.generated]
    money = tuple(each.name for each in model.columns if each.kind == "DecimalField" and not each.generated)
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


def _decide(table: str, says: str, where: str = "") -> Finding:
    return Finding(weight=Weight.DECIDE, table=table, says=says, where=where)


def _check(table: str, says: str, where: str = "") -> Finding:
    return Finding(weight=Weight.CHECK, table=table, says=says, where=where)


def _note(table: str, says: str, where: str = "") -> Finding:
    return Finding(weight=Weight.NOTE, table=table, says=says, where=where)
