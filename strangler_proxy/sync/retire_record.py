"""The record of a retirement, beside the old tables: which step is complete, what was set aside, and how to find it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from strangler_proxy.core.ports import Operation
from strangler_proxy.core.retire import SCHEMA
from strangler_proxy.sync.dump import Source
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement

_SCHEMA_LOCK = ("schema", "lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key across the boundary: where it is, as the application names things, and its definition."""

    schema: str
    table: str
    name: str
    definition: str

    @property
    def identifier(self) -> sql.Identifier:
        """The table that has it."""
        return sql.Identifier(self.schema, self.table)

    @property
    def regclass(self) -> str:
        """The same as text, for `to_regclass`."""
        return _quoted(self.schema, self.table)

    def add(self) -> str:
        """The statement that brings it back; `VALIDATE CONSTRAINT` follows."""
        return f"ALTER TABLE {self.regclass} ADD CONSTRAINT {_quoted(self.name)} {self.definition} NOT VALID"

    def validate(self) -> str:
        """The statement that looks at the rows that are there."""
        return f"ALTER TABLE {self.regclass} VALIDATE CONSTRAINT {_quoted(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldTable:
    """A table that was set aside. `schema` and `relation` are what it was called, where its view is now."""

    name: str
    schema: str
    relation: str
    kept_as: str
    counter: str
    key: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def view(self) -> sql.Identifier:
        """Where the application looks."""
        return sql.Identifier(self.schema, self.relation)

    @property
    def view_regclass(self) -> str:
        """The same as text."""
        return _quoted(self.schema, self.relation)

    @property
    def kept(self) -> sql.Identifier:
        """The table itself."""
        return sql.Identifier(SCHEMA, self.kept_as)

    @property
    def kept_regclass(self) -> str:
        """The same as text."""
        return _quoted(SCHEMA, self.kept_as)

    @property
    def tripwire(self) -> sql.Identifier:
        """What the view looks at, so that reads are counted."""
        return sql.Identifier(SCHEMA, f"{self.counter}_reads")

    @property
    def tripwire_regclass(self) -> str:
        """The same as text."""
        return _quoted(SCHEMA, f"{self.counter}_reads")

    @property
    def refusals(self) -> sql.Identifier:
        """The sequence that counts refused writes."""
        return sql.Identifier(SCHEMA, f"{self.counter}_refused")

    @property
    def source(self) -> Source:
        """The table as the dump reads it."""
        return Source(name=self.name, schema=SCHEMA, relation=self.kept_as, key=self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """What the old owner's database knows. `step` is the last that is complete, `tables` empty until set aside."""

    flag: str
    operation_id: int
    status: str
    step: str
    epoch: int
    keep_copy: bool
    dump: str
    tables: tuple[OldTable, ...]
    foreign_keys: tuple[ForeignKey, ...]
    actor: str
    reason: str
    retired_at: dt.datetime | None

    @property
    def began(self) -> bool:
        """Was anything done that has to be gone on with?"""
        return self.status == "retiring" and self.step not in ("", "verify")


async def prepare(link: Link) -> None:
    """Make the schema and the tables that retiring needs. Idempotent."""
    async with link.transaction():
        await link.execute(statement(*_SCHEMA_LOCK))
        await link.execute(statement("retire", "schema"))


async def load(link: Link, flag: str) -> Retirement | None:
    """The record of a flag; None where nothing was ever retired here."""
    there = await (await link.execute(statement("retire", "exists"))).fetchone()
    if there is None or not there[0]:
        return None
    row = await (await link.execute(statement("retire", "record"), {"flag": flag})).fetchone()
    return None if row is None else _record(row)


async def begin(link: Link, operation: Operation, *, epoch: int, keep_copy: bool) -> None:
    """Write the record; one whose work has begun stays as it is."""
    given = {
        "flag": operation.flag,
        "operation_id": operation.id,
        "epoch": epoch,
        "keep_copy": keep_copy,
        "actor": operation.by,
        "reason": operation.reason,
    }
    await link.execute(statement("retire", "begin"), given)


async def forget(link: Link, flag: str) -> None:
    """Take back a record of which nothing was done yet."""
    await link.execute(statement("retire", "forget"), {"flag": flag})


async def advance(link: Link, flag: str, step: str) -> None:
    """A step is complete."""
    await link.execute(statement("retire", "advance"), {"flag": flag, "step": step})


async def note_dump(link: Link, flag: str, folder: str) -> None:
    """Where the dump is."""
    await link.execute(statement("retire", "dumped"), {"flag": flag, "dump": folder})


async def note_tables(link: Link, flag: str, tables: Sequence[OldTable], keys: Sequence[ForeignKey]) -> None:
    """What was set aside, in the transaction that does it."""
    document = {"tables": [_table_document(each) for each in tables], "foreign_keys": [_key_document(k) for k in keys]}
    await link.execute(statement("retire", "set_tables"), {"flag": flag, "tables": Jsonb(document)})


async def set_status(link: Link, flag: str, status: str) -> None:
    """`retired`, `dropped`, `undoing` or `undone`."""
    await link.execute(statement("retire", "set_status"), {"flag": flag, "status": status})


def _record(row: tuple[Any, ...]) -> Retirement:
    document: Mapping[str, Any] = row[7] or {}
    return Retirement(
        flag=row[0],
        operation_id=row[1],
        status=row[2],
        step=row[3],
        epoch=row[4],
        keep_copy=row[5],
        dump=row[6],
        tables=tuple(
            OldTable(**{**each, "key": tuple(each["key"]), "columns": tuple(each["columns"])})
            for each in document.get("tables", ())
        ),
        foreign_keys=tuple(ForeignKey(**each) for each in document.get("foreign_keys", ())),
        actor=row[8],
        reason=row[9],
        retired_at=row[10],
    )


def _table_document(table: OldTable) -> dict[str, Any]:
    return {
        "name": table.name,
        "schema": table.schema,
        "relation": table.relation,
        "kept_as": table.kept_as,
        "counter": table.counter,
        "key": list(table.key),
        "columns": list(table.columns),
    }


def _key_document(key: ForeignKey) -> dict[str, str]:
    return {"schema": key.schema, "table": key.table, "name": key.name, "definition": key.definition}


def _quoted(*parts: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
