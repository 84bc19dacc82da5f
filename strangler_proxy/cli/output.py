"""Data to stdout, words to stderr; tables for people, JSON for programs."""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from strangler_proxy.core.errors import DeclarationError, StranglerError

SCHEMA_VERSION = 1


class Format(enum.Enum):
    """How data are written."""

    TABLE = "table"
    JSON = "json"


class _Said:
    """What this process was asked for, and whether it has printed its document yet (a script expects one)."""

    format = Format.TABLE
    document = False


def _remember(value: Format) -> Format:
    _Said.format = value
    return value


OutputOption = Annotated[
    Format,
    typer.Option("--output", "-o", help="A table for people or JSON for programs.", callback=_remember, is_eager=True),
]


def is_json() -> bool:
    """Was JSON asked for?"""
    return _Said.format is Format.JSON


def show(document: dict[str, Any], *tables: RenderableType) -> None:
    """Print the result: the document as JSON, or what people read."""
    if is_json():
        _Said.document = True
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    console = stdout()
    for table in tables:
        console.print(table)


def say(words: str) -> None:
    """Words for a person, on stderr."""
    typer.echo(words, err=True)


def say_next(*commands: str | None) -> None:
    """The commands that make sense now."""
    for position, command in enumerate(each for each in commands if each):
        say(f"{'next:' if position == 0 else '  or:'} {command}")


def report(error: StranglerError) -> None:
    """An error as a sentence with the next command; in JSON mode also as the document, if none was printed."""
    lines = error.problems if isinstance(error, DeclarationError) else error.message.split("\n")
    say(f"error: {lines[0]}" if len(lines) == 1 or not isinstance(error, DeclarationError) else "error:")
    for line in lines[1:] if not isinstance(error, DeclarationError) or len(lines) == 1 else lines:
        say(f"  {line}")
    say_next(error.next_command)
    if is_json() and not _Said.document:
        problem = {
            "code": getattr(error, "code", None) or type(error).__name__,
            "message": error.message,
            "exit_code": error.exit_code,
            "next_command": error.next_command,
        }
        if isinstance(error, DeclarationError):
            problem["problems"] = list(error.problems)
        typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, "error": problem}, ensure_ascii=False))


def stdout() -> Console:
    """Where tables go: wide where nobody looks, so that programs that read them lose nothing. NO_COLOR is honoured."""
    return Console(width=None if sys.stdout.isatty() else 220, highlight=False, soft_wrap=False)


def grid(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def pairs(*rows: tuple[str, str]) -> Table:
    """Names and values, one a line; empty values are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, escape(value))
    return table


def ago(text: str | None, *, now: dt.datetime | None = None) -> str:
    """How long ago a time of a document was.

    >>> ago("2026-11-22T12:00:00.000000Z", now=dt.datetime(2026, 11, 22, 13, 5, tzinfo=dt.UTC))
    '1h05m ago'
    """
    if text is None:
        return "-"
    seconds = int(((now or dt.datetime.now(dt.UTC)) - dt.datetime.fromisoformat(text)).total_seconds())
    return f"{duration(max(0, seconds))} ago"


def duration(seconds: float) -> str:
    """Seconds for people."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
