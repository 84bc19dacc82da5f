"""The section `[data]` of a capability file: the ownership manifest."""

from __future__ import annotations

import re

from strangler_proxy.core.manifest import Column, Manifest, OnDelete, SoftReference, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.fields import Fields

_SQL_NAME = re.compile(r"[^\x00-\x1f\x7f.%]{1,63}")
_COLUMN = re.compile(r"[^\x00-\x1f\x7f%]{1,63}")
_DATABASE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_ON_DELETE = {rule.value: rule for rule in OnDelete}


def manifest(document: Fields, flag: str) -> Manifest | None:
    """The manifest of a file; None where it declares no data."""
    if not document.has("data"):
        return None
    fields = document.table("data", "data")
    databases = {origin: fields.text(origin.value) for origin in Origin}
    for origin, name in databases.items():
        if name and not _DATABASE.fullmatch(name):
            fields.problem(
                origin.value, f'"{name}" is not a database name (it is looked up in STRANGLER_DATA_URL__NAME)'
            )
    if databases[Origin.MONOLITH] and databases[Origin.MONOLITH].lower() == databases[Origin.EXTRACTED].lower():
        fields.problem("extracted", "both sides name the same database")
    tables = tuple(_table(each) for each in fields.list_of_tables("tables", "data table"))
    if not tables:
        fields.problem("tables", "no [[data.tables]]: name the tables that move, or leave [data] out")
    _check_names(fields, tables)
    idempotency = fields.text("idempotency_table", "") or None
    if idempotency is not None and idempotency not in {table.monolith for table in tables}:
        fields.problem("idempotency_table", f'idempotency_table "{idempotency}" is none of the tables')
    after_days = fields.whole("retire_after_days", 14, 0, 3650)
    keep_copy = fields.flag("keep_copy", False)
    fields.finish()
    return Manifest(
        flag=flag,
        databases=databases,
        tables=tables,
        idempotency_table=idempotency,
        retire_after_days=after_days,
        keep_copy=keep_copy,
    )


def _table(fields: Fields) -> Table:
    name = fields.text("monolith")
    fields.what = f'data table "{name}"'
    columns = _columns(fields)
    known = {column.monolith for column in columns}

    def of_columns(key: str, names: tuple[str, ...]) -> tuple[str, ...]:
        for each in names:
            if each not in known:
                fields.problem(key, f'{key} names the column "{each}", which is not in columns')
        return names

    key = of_columns("key", fields.texts("key", None))
    if fields.has("key") and fields.values["key"] == []:
        fields.problem("key", "key is empty: a row without a key cannot be followed")
    sequence = fields.text("sequence", "") or None
    table = Table(
        monolith=name,
        extracted=fields.text("extracted", name),
        key=key,
        columns=columns,
        sequence=sequence if sequence is None else of_columns("sequence", (sequence,))[0],
        soft_references=tuple(_reference(each, known) for each in fields.list_of_tables("soft_references", "soft")),
        money=of_columns("money", fields.texts("money")),
        money_by=of_columns("money_by", fields.texts("money_by")),
    )
    if table.money_by and not table.money:
        fields.problem("money_by", "money_by without money: nothing to total")
    for side in Origin:
        for part in table.name(side).split("."):
            if table.name(side) and (not _SQL_NAME.fullmatch(part) or table.name(side).count(".") > 1):
                fields.problem(side.value, f'"{table.name(side)}" is not a table name (TABLE or SCHEMA.TABLE)')
                break
    fields.finish()
    return table


def _columns(fields: Fields) -> tuple[Column, ...]:
    """A list of names that are the same on both sides, or a table `{ monolith = "extracted" }`."""
    if isinstance(fields.values.get("columns"), dict):
        inner = fields.table("columns", f"{fields.what}, columns")
        found = tuple(Column(monolith=name, extracted=inner.text(name)) for name in inner.values)
    else:
        found = tuple(Column(monolith=name, extracted=name) for name in fields.texts("columns", None))
    outside = [column.extracted for column in found]
    for column in found:
        if column.extracted and outside.count(column.extracted) > 1 and column.monolith != column.extracted:
            fields.problem("columns", f'two columns become "{column.extracted}"')
        for name in {column.monolith, column.extracted} - {""}:
            if not _COLUMN.fullmatch(name):
                fields.problem("columns", f'"{name}" is not a column name')
    if "columns" in fields.values and fields.values["columns"] in ([], {}):
        fields.problem("columns", "columns is empty: name the columns that move")
    return found


def _reference(fields: Fields, known: set[str]) -> SoftReference:
    column = fields.text("column")
    fields.what = f'soft reference "{column}"'
    if column and column not in known:
        fields.problem("column", f'names the column "{column}", which is not in columns')
    references = fields.text("references")
    parts = references.split(".")
    if references and (len(parts) not in (2, 3) or not all(_SQL_NAME.fullmatch(part) for part in parts)):
        fields.problem("references", f'references "{references}" is not TABLE.COLUMN of the monolith')
    on_delete = fields.choice("on_delete", _ON_DELETE)
    fields.finish()
    return SoftReference(column=column, references=references, on_delete=on_delete)


def _check_names(fields: Fields, tables: tuple[Table, ...]) -> None:
    for side in Origin:
        seen: set[str] = set()
        for index, table in enumerate(tables):
            name = table.name(side)
            if name and name in seen:
                place = (*fields.path, "tables", index, side.value)
                fields.problems.add(place, f'data table "{name}" is declared twice on the side of {side.value}')
            seen.add(name)
