"""Documents: a decoded body read as what its Content-Type says, or as what it is where that is not true."""

from __future__ import annotations

import csv
import enum
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from strangler_proxy.core.decoding import text
from strangler_proxy.core.difference import Constant, Repeated
from strangler_proxy.core.markup import is_tractable, read_html

CSV_ROWS = 50_000
TOO_DEEP = "JSON nested too deep to be read"


class Form(enum.Enum):
    """How a body is compared."""

    JSON = "json"
    HTML = "html"
    CSV = "csv"
    FIELDS = "fields"  # application/x-www-form-urlencoded
    TEXT = "text"
    BYTES = "bytes"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A body, read. `content` is a JSON value, an Element, rows, text or bytes by `form`.

    `problems` say what was wrong with it: each a sentence without any of its content.
    """

    form: Form
    content: object
    problems: tuple[str, ...] = ()


class NotJson(Exception):
    """A text that is not JSON, or is nested too deep for us (then the message is TOO_DEEP)."""


def read_document(body: bytes, content_type: str) -> Document:
    """Read a decoded body. Never raises: what is not what it says is read as text, or as bytes, with the problem said.

    >>> read_document(b'{"a": NaN}', "application/json").problems
    ('NaN is not JSON',)
    """
    form = form_of(content_type)
    if not body:
        return Document(form=Form.EMPTY, content=b"")
    if form is Form.BYTES:
        return Document(form=form, content=body)
    words, problem = text(body, content_type)
    problems = [problem] if problem else []
    if form is Form.JSON:
        try:
            content, found = read_json(words)
        except NotJson as error:
            return Document(form=Form.TEXT, content=words, problems=(*problems, str(error)))
        return Document(form=form, content=content, problems=(*problems, *found))
    if form is Form.HTML and is_tractable(words):
        return Document(form=form, content=read_html(words), problems=tuple(problems))
    if form is Form.CSV and (rows := read_csv(words)) is not None:
        return Document(form=form, content=rows, problems=tuple(problems))
    if form is Form.FIELDS:
        return Document(form=form, content=_pairs(parse_qsl(words, keep_blank_values=True)), problems=tuple(problems))
    return Document(form=Form.TEXT, content=words, problems=tuple(problems))


def form_of(content_type: str) -> Form:
    """How bodies of a media type are compared.

    >>> form_of("application/problem+json; charset=utf-8")
    <Form.JSON: 'json'>
    """
    return _form_of(content_type.partition(";")[0])


@lru_cache(maxsize=256)
def _form_of(media: str) -> Form:
    media = media.strip().lower()
    if media.endswith(("/json", "+json")):
        return Form.JSON
    if media in ("text/html", "application/xhtml+xml"):
        return Form.HTML
    if media == "text/csv":
        return Form.CSV
    if media == "application/x-www-form-urlencoded":
        return Form.FIELDS
    readable = media.startswith("text/") or media.endswith(("/xml", "+xml", "/javascript", "/x-ndjson", "/yaml"))
    return Form.TEXT if readable else Form.BYTES


def read_json(words: str) -> tuple[Any, list[str]]:
    """A JSON text as a value that keeps what the standard reader loses, and what was wrong with it.

    Floats are Decimal, integers exact, NaN and numbers beyond any range Constant, repeated keys Repeated.
    Raises NotJson.
    """
    problems: dict[str, None] = {}

    def constant(name: str) -> Constant:
        problems[f"{name} is not JSON"] = None
        return Constant(name)

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) == len(members):
            return found
        problems["a key stands more than once in an object"] = None
        return _pairs(members)

    def number(read: Callable[[str], Any], digits: str) -> Any:
        try:
            return read(digits) if len(digits) < 4_000 else Decimal(digits)
        except (ValueError, InvalidOperation):
            problems["a number is beyond any range"] = None
            return Constant(digits)

    try:
        try:
            return json.loads(words, parse_float=Decimal, parse_constant=constant, object_pairs_hook=pairs), [*problems]
        except json.JSONDecodeError:
            raise
        except (ValueError, InvalidOperation):
            problems.clear()
            read = json.loads(
                words,
                parse_float=lambda digits: number(Decimal, digits),
                parse_int=lambda digits: number(int, digits),
                parse_constant=constant,
                object_pairs_hook=pairs,
            )
            return read, [*problems]
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise NotJson(TOO_DEEP) from error


def read_csv(words: str) -> list[dict[str, str]] | None:
    """Rows by column name; None where it has no columns or is not CSV."""
    try:
        lines = csv.reader(io.StringIO(words, newline=""))
        columns = next(lines, None)
        if not columns or len(columns) > 500 or len(set(columns)) != len(columns):
            return None
        rows: list[dict[str, str]] = []
        for cells in lines:
            if len(rows) == CSV_ROWS or len(cells) > len(columns):
                return None
            if cells:
                rows.append(dict(zip(columns, cells, strict=False)))
    except csv.Error:
        return None
    return rows


def _pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
    grouped: dict[str, list[Any]] = {}
    for key, value in members:
        grouped.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else Repeated(values) for key, values in grouped.items()}
