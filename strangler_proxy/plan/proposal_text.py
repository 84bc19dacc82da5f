"""A proposed manifest as the text of a capability file's section `[data]`, with its findings as comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable

from strangler_proxy.core.manifest import Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.proposal import Finding, Proposal

_WIDTH = 118


def data_section(proposal: Proposal) -> str:
    """The text; `plan` reads it back to the same manifest."""
    manifest = proposal.manifest
    monolith, extracted = (manifest.databases[origin] for origin in Origin)
    tables = {table.monolith for table in manifest.tables}
    parts = [
        *_comments(each for each in proposal.findings if each.table not in tables),
        "[data]",
        f"monolith = {_text(monolith)}   # STRANGLER_DATA_URL__{monolith.upper()}",
        f"extracted = {_text(extracted)}   # STRANGLER_DATA_URL__{extracted.upper()}",
    ]
    if manifest.idempotency_table is not None:
        parts.append(f"idempotency_table = {_text(manifest.idempotency_table)}")
    parts += ["", "# Parents before children."]
    for table in manifest.tables:
        parts += _table(table, [each for each in proposal.findings if each.table == table.monolith])
    return "\n".join(parts) + "\n"


def _table(table: Table, findings: Iterable[Finding]) -> list[str]:
    lines = ["", *_comments(findings), "[[data.tables]]", f"monolith = {_text(table.monolith)}"]
    lines.append(f"key = {_texts(table.key)}")
    lines += _list("columns", [column.monolith for column in table.columns])
    if table.sequence is not None:
        lines.append(f"sequence = {_text(table.sequence)}")
    if table.money:
        lines += _list("money", table.money)
    if table.money_by:
        lines += _list("money_by", table.money_by)
    if table.soft_references:
        lines.append("soft_references = [")
        lines += [
            f"    {{ column = {_text(each.column)}, references = {_text(each.references)}, "
            f"on_delete = {_text(each.on_delete.value)} }},"
            for each in table.soft_references
        ]
        lines.append("]")
    return lines


def _list(key: str, names: Iterable[str]) -> list[str]:
    one = f"{key} = {_texts(names)}"
    if len(one) <= _WIDTH:
        return [one]
    return [f"{key} = [", *(f"    {_text(name)}," for name in names), "]"]


def _comments(findings: Iterable[Finding]) -> list[str]:
    lines: list[str] = []
    for each in findings:
        where = f" ({each.where})" if each.where else ""
        said = f"{each.weight.value.upper()}: {each.table + ': ' if each.table else ''}{each.says}{where}"
        lines += textwrap.wrap(
            said, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False, break_long_words=False
        )
    return lines


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
