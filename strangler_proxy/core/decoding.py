"""Decoding of bodies: content codings undone within a limit, charsets resolved.

gzip and deflate always; br and zstd only where the caller passes what undoes them: else the body is *not decodable
here*, which is a limit of ours and never a fault of a side.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

DECODED_BYTES = 8 * 1024 * 1024
CODINGS = 3

Undo = Callable[[bytes, int], bytes]
"""Takes the coded bytes and the most bytes that it may give; raises TooMuch or BrokenCoding."""

_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_.:+-]{1,40})""", re.I)
_META = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([A-Za-z0-9_.:+-]{1,40})""", re.I)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_NOT_TEXT = frozenset({"base64", "hex", "bz2", "zlib", "quopri", "rot13", "uu", "punycode", "idna", "mbcs", "oem",
                       "raw-unicode-escape", "unicode-escape", "undefined"})  # fmt: skip


class TooMuch(Exception):
    """More decoded bytes than the limit."""


class BrokenCoding(Exception):
    """The bytes are not what Content-Encoding says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A body without its content codings. `problem` is empty, `bomb`, `broken`, or `unknown` (not decodable here)."""

    body: bytes = b""
    problem: str = ""
    detail: str = ""


def decode(
    body: bytes, content_encoding: str, *, limit: int = DECODED_BYTES, more: Mapping[str, Undo] = MappingProxyType({})
) -> Decoded:
    """Undo the content codings, the last one first; never more than `limit` bytes at any step.

    >>> decode(b"plain", "identity").body
    b'plain'
    >>> decode(b"?", "br").problem
    'unknown'
    """
    codings = [each.strip().lower() for each in content_encoding.split(",") if each.strip()]
    if len(codings) > CODINGS:
        return Decoded(problem="broken", detail=f"{len(codings)} content codings")
    for coding in reversed(codings):
        if coding == "identity":
            continue
        undo = _KNOWN.get(coding) or more.get(coding)
        if undo is None:
            return Decoded(problem="unknown", detail=f"{coding[:20]} is not decodable here")
        try:
            body = undo(body, limit)
        except TooMuch:
            return Decoded(problem="bomb", detail=f"more than {limit} bytes when {coding} is undone")
        except BrokenCoding as error:
            return Decoded(problem="broken", detail=f"not {coding}: {error}")
    if len(body) > limit:
        return Decoded(problem="bomb", detail=f"more than {limit} bytes")
    return Decoded(body=body)


def charset(content_type: str, body: bytes) -> str:
    """The charset of a text: by its byte order mark, its Content-Type, its meta element, else UTF-8.

    >>> charset("text/html; charset=ISO-8859-1", b"")
    'iso8859-1'
    """
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name
    if named := _named(content_type):
        return named
    head = body[:2_048]
    if b"<" in head and (meta := _META.search(head)) is not None:
        return _known(meta.group(1).decode("ascii"))
    return "utf-8"


def text(body: bytes, content_type: str) -> tuple[str, str]:
    """The text of a body, and what was wrong with it (empty, or one sentence).

    Bytes that are none in the charset stay visible and distinct as lone surrogates, so that two wrong bodies only
    compare equal when their bytes do.
    """
    name = charset(content_type, body)
    for mark, marked in _BOMS:
        if marked == name and body.startswith(mark):
            body = body[len(mark) :]
    try:
        return body.decode(name), ""
    except UnicodeDecodeError as error:
        return body.decode("utf-8", "surrogateescape"), f"invalid {name} at byte {error.start}"
    except (LookupError, UnicodeError):
        return body.decode("utf-8", "surrogateescape"), f"not text in {name}"


@lru_cache(maxsize=256)
def _named(content_type: str) -> str:
    """The charset that a Content-Type names, empty if it names none."""
    named = _CHARSET.search(content_type)
    return "" if named is None else _known(named.group(1))


def _known(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return "utf-8" if found.replace("_", "-") in _NOT_TEXT else found


def _inflate(body: bytes, limit: int, window: int) -> bytes:
    out: list[bytes] = []
    size = 0
    while body:
        machine = zlib.decompressobj(window)
        try:
            piece = machine.decompress(body, limit - size + 1)
        except zlib.error as error:
            raise BrokenCoding(str(error)[:80]) from error
        size += len(piece)
        if size > limit:
            raise TooMuch
        out.append(piece)
        if not machine.eof:
            raise BrokenCoding("it ends too early")
        if machine.unused_data == body:
            raise BrokenCoding("no progress")
        body = machine.unused_data if window > 15 else b""
        if len(out) > 1_000:
            raise BrokenCoding("more than 1000 members")
    return b"".join(out)


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(body, limit, 31)


def _deflate(body: bytes, limit: int) -> bytes:
    try:
        return _inflate(body, limit, 15)
    except BrokenCoding:
        return _inflate(body, limit, -15)  # some servers send raw deflate (RFC 9110 8.4.1.2 notes it)


_KNOWN: Mapping[str, Undo] = MappingProxyType({"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate})
