"""What an intermediary must do to fields: drop what is for one hop, refuse what is ambiguous, keep the rest as it came.

`Connection` decides first; only afterwards may trusted fields be added, so that a client cannot nominate them away.
Order, case and duplicates of what is kept stay as received. Fields whose name differs from a special one only by
underscores are dropped: CGI-like servers read `X_Forwarded_For` as `X-Forwarded-For`. RFC 9110 7.6, RFC 9112 6.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.paths import is_host

Fields = list[tuple[bytes, bytes]]
"""Names and values in the order of arrival."""

_COLON = b": "
_CRLF = b"\r\n"


class Kind(enum.IntEnum):
    """What a field is to us."""

    HOP = 0
    HOST = 1
    CONNECTION = 2
    TE = 3
    TRANSFER_ENCODING = 4
    CONTENT_LENGTH = 5
    EXPECT = 6
    COOKIE = 7
    AUTHORIZATION = 8
    VIA = 9
    EDGE = 10
    REQUEST_ID = 11
    TRACEPARENT = 12
    TRACESTATE = 13
    DEBUG = 14
    UPGRADE = 15
    MAX_FORWARDS = 16


REQUEST_KINDS: Final[dict[bytes, int]] = {
    b"host": 1,
    b"connection": 2,
    b"te": 3,
    b"transfer-encoding": 4,
    b"content-length": 5,
    b"expect": 6,
    b"cookie": 7,
    b"authorization": 8,
    b"via": 9,
    b"forwarded": 10,
    b"x-request-id": 11,
    b"traceparent": 12,
    b"tracestate": 13,
    b"strangler-debug": 14,
    b"upgrade": 15,
    b"max-forwards": 16,
    b"keep-alive": 0,
    b"proxy-connection": 0,
    b"proxy-authenticate": 0,
    b"proxy-authorization": 0,
}
ANSWER_KINDS: Final[dict[bytes, int]] = {
    b"connection": 2,
    b"transfer-encoding": 4,
    b"content-length": 5,
    b"x-request-id": 0,
    b"keep-alive": 0,
    b"proxy-connection": 0,
    b"proxy-authenticate": 0,
    b"upgrade": 0,
    b"te": 0,
}
_NEVER_NOMINATED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"cache-control", b"close"})
_STRANGLER: Final = b"x-strangler-"
_FORWARDED: Final = b"x-forwarded-"
_FENCE: Final = b"x-strangler-fence"
_OVERRIDE: Final = b"x-strangler-override"
_SHADOW: Final = frozenset({b"x-strangler-effects", b"x-strangler-shadow-proof", b"x-strangler-version"})
_NO_TRAILER: Final = frozenset(
    {b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"trailer", b"cache-control"}
)


_PLAIN: Final = -1
_OVERRIDDEN: Final = -2
_FORWARDING: Final = -3
_FENCED: Final = -4
_SHADOWED: Final = -5
_NAMES_KEPT: Final = 4_096
_request_names: dict[bytes, int] = {}
_answer_names: dict[bytes, int] = {}
"""What names turned out to be, as they were spelled; pure, so that remembering changes nothing but the speed."""


@dataclass(slots=True, eq=False)
class RequestFields:
    """A request's fields, read. `lines` is what is sent on: name, colon, value, CRLF, over and over; `block` is all.

    `plain`: nothing in them needs a second look (one Host, no body, nothing expected, no intermediary before us).
    `persistent`: there is no Connection field, so that the version alone says whether the connection is kept.
    `upgrade`: the protocol that Upgrade asks for, in lower case, where Connection names it; never part of `block`.
    """

    host: bytes = b""
    hosts: int = 0
    chunked: bool = False
    content_length: int = -1
    expect: bytes = b""
    cookie: bytes = b""
    authorization: bytes = b""
    via: bytes = b""
    forwarded_for: bytes = b""
    forwarded: bytes = b""
    forwarded_proto: bytes = b""
    forwarded_host: bytes = b""
    request_id: bytes = b""
    traceparent: bytes = b""
    traces: int = 0
    tracestate: bytes = b""
    override: bytes = b""
    upgrade: bytes = b""
    max_forwards: bytes = b""
    debug: bool = False
    plain: bool = False
    persistent: bool = True
    block: bytes = b""
    identity: str | None = None
    signed_in: bool | None = None
    writes: dict[str, float] | None = None
    lines: list[bytes] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class AnswerFields:
    """An answer's fields, read. `fence` is the value of `X-Strangler-Fence`, never part of `lines` and `block`.

    Nor is `shadow`: what a side says of its effects, names in lower case. `pairs` (`block` as ASGI wants it) and
    `compared` (what the mirror looks at) are worked out where they are asked for.
    """

    chunked: bool = False
    coded: bool = False
    content_length: int = -1
    fence: bytes = b""
    block: bytes = b""
    shadow: tuple[tuple[bytes, bytes], ...] = ()
    pairs: Fields | None = None
    compared: tuple[bytes, bytes] | None = None
    lines: list[bytes] = field(default_factory=list)


def read_request_fields(fields: Fields) -> RequestFields:
    """Read a request's fields once. Raises MalformedFields for what could be read in two ways."""
    found = RequestFields()
    lines = found.lines
    names = _request_names
    nominated: frozenset[bytes] = frozenset()
    for name, value in fields:
        kind = names.get(name)
        if kind is None:
            kind = _remember(names, name, _request_kind(name.lower()))
        if kind == _PLAIN:
            lines += (name, _COLON, value, _CRLF)
        elif kind == 1:
            found.hosts += 1
            found.host = value.strip()
            lines += (name, _COLON, value, _CRLF)
        elif kind == 7:
            found.cookie = found.cookie + b"; " + value if found.cookie else value
            lines += (name, _COLON, value, _CRLF)
        elif kind == 2:
            found.persistent = False
            if value not in (b"keep-alive", b"close", b"Keep-Alive"):
                nominated |= _nominations(value)
        elif kind == _OVERRIDDEN:
            found.override = value
        elif kind == _FORWARDING:
            _note_edge(found, name.lower(), value)
        elif kind:
            _note(found, kind, name, value)
    if found.hosts > 1:
        raise MalformedFields("more than one Host field")
    if found.hosts and not is_host(found.host):
        raise MalformedFields("Host is not a host")
    if found.upgrade and b"upgrade" not in nominated:
        found.upgrade = b""
    if nominated:
        found.lines = _without(lines, nominated)
    found.block = b"".join(found.lines)
    found.plain = found.hosts == 1 and not (
        found.chunked
        or found.content_length >= 0
        or found.expect
        or found.via
        or found.request_id
        or found.traces
        or found.upgrade
        or found.max_forwards
    )
    return found


def read_answer_fields(fields: Fields) -> AnswerFields:
    """Read an upstream's fields once. Raises MalformedFields for two lengths."""
    found = AnswerFields()
    lines = found.lines
    names = _answer_names
    nominated: frozenset[bytes] = frozenset()
    for name, value in fields:
        kind = names.get(name)
        if kind is None:
            kind = _remember(names, name, _answer_kind(name.lower()))
        if kind == _PLAIN:
            lines += (name, _COLON, value, _CRLF)
        elif kind == 5:
            if found.content_length >= 0 or not value.strip().isdigit():
                raise MalformedFields("Content-Length is not one number")
            found.content_length = int(value)
            lines += (name, _COLON, value, _CRLF)
        elif kind == 4:
            found.chunked = value.strip().lower() == b"chunked" and not found.coded
            found.coded = not found.chunked
        elif kind == _FENCED:
            found.fence = value
        elif kind == _SHADOWED:
            found.shadow = (*found.shadow, (name.lower(), value))
        elif kind == 2 and value not in (b"keep-alive", b"close"):
            nominated |= _nominations(value)
    if nominated:
        found.lines = _without(lines, nominated)
    found.block = b"".join(found.lines)
    return found


def _request_kind(low: bytes) -> int:
    kind = REQUEST_KINDS.get(low)
    if kind is not None:
        return kind
    if low == _OVERRIDE:
        return _OVERRIDDEN
    if low[:12] == _FORWARDED:
        return _FORWARDING
    return 0 if _is_special(low.replace(b"_", b"-")) else _PLAIN


def _answer_kind(low: bytes) -> int:
    kind = ANSWER_KINDS.get(low)
    if kind is not None:
        return kind
    if low == _FENCE:
        return _FENCED
    if low in _SHADOW:
        return _SHADOWED
    return 0 if low.replace(b"_", b"-")[:12] == _STRANGLER else _PLAIN


def _remember(names: dict[bytes, int], name: bytes, kind: int) -> int:
    if len(names) >= _NAMES_KEPT:
        names.clear()
    if len(name) <= 64:
        names[name] = kind
    return kind


def trailer_lines(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The trailers that may be sent on: nothing that frames, routes, authenticates or is ours (RFC 9110 6.5.1)."""
    lines: list[bytes] = []
    for name, value in fields:
        low = name.lower().replace(b"_", b"-")
        if not _is_special(low) and low not in _NO_TRAILER and low not in ANSWER_KINDS:
            lines += (name, _COLON, value, _CRLF)
    return lines


def with_one_hop_less(found: RequestFields) -> bytes:
    """The block with Max-Forwards one less (RFC 9110 7.6.2). Raises MalformedFields where it is no number."""
    if not (found.max_forwards.isdigit() and len(found.max_forwards) <= 9):
        raise MalformedFields("Max-Forwards is not one number")
    lines = list(found.lines)
    for at in range(0, len(lines), 4):
        if lines[at].lower() == b"max-forwards":
            lines[at + 2] = b"%d" % (int(found.max_forwards) - 1)
    return b"".join(lines)


def without_length(block: bytes) -> bytes:
    """A block of answer fields without Content-Length: that of a 204, which must have none (RFC 9110 8.6)."""
    return b"".join(line for line in block.splitlines(keepends=True) if line[:15].lower() != b"content-length:")


def has_cookie(header: bytes, name: bytes) -> bool:
    """Is there a cookie of this name?"""
    return name in header and cookie(header, name) is not None


def cookie(header: bytes, name: bytes) -> bytes | None:
    """The first cookie of a name in a Cookie field, None if there is none.

    >>> cookie(b"a=1; strangler_visitor=x.y", b"strangler_visitor")
    b'x.y'
    """
    for part in header.split(b";"):
        key, found, value = part.strip().partition(b"=")
        if found and key == name:
            return value
    return None


def passes_through(via: bytes, pseudonym: bytes) -> bool:
    """Does a Via field name this intermediary already?

    >>> passes_through(b"1.1 edge, 1.1 strangler-proxy (x)", b"strangler-proxy")
    True
    """
    return pseudonym in via and any(pseudonym in part.split()[1:2] for part in via.split(b","))


def _note(found: RequestFields, kind: int, name: bytes, value: bytes) -> None:
    lines = found.lines
    if kind == Kind.AUTHORIZATION:
        found.authorization = value
    elif kind == Kind.VIA:
        found.via = found.via + b"," + value if found.via else value
    elif kind == Kind.CONTENT_LENGTH:
        if found.content_length >= 0 or not value.strip().isdigit():
            raise MalformedFields("Content-Length is not one number")
        found.content_length = int(value)
    elif kind == Kind.MAX_FORWARDS:
        if found.max_forwards:
            raise MalformedFields("more than one Max-Forwards")
        found.max_forwards = value.strip()
    elif kind == Kind.TRANSFER_ENCODING:
        if found.chunked or value.strip().lower() != b"chunked":
            raise MalformedFields("Transfer-Encoding is not chunked alone")
        found.chunked = True
        return
    else:
        _note_dropped(found, kind, value)
        return
    lines += (name, _COLON, value, _CRLF)


def _note_dropped(found: RequestFields, kind: int, value: bytes) -> None:
    if kind == Kind.TE:
        if b"trailers" in value.lower():
            found.lines += (b"TE: trailers\r\nConnection: TE", b"", b"", _CRLF)
    elif kind == Kind.EXPECT:
        found.expect = value.strip().lower()
    elif kind == Kind.EDGE:
        found.forwarded = found.forwarded + b", " + value if found.forwarded else value
    elif kind == Kind.REQUEST_ID:
        found.request_id = value
    elif kind == Kind.TRACEPARENT:
        found.traceparent = value
        found.traces += 1
    elif kind == Kind.TRACESTATE:
        found.tracestate = found.tracestate + b"," + value if found.tracestate else value
    elif kind == Kind.DEBUG:
        found.debug = True
    elif kind == Kind.UPGRADE:
        found.upgrade = value.strip().lower()


def _note_edge(found: RequestFields, low: bytes, value: bytes) -> None:
    if low == b"x-forwarded-for":
        found.forwarded_for = found.forwarded_for + b", " + value if found.forwarded_for else value
    elif low == b"x-forwarded-proto":
        found.forwarded_proto = value
    elif low == b"x-forwarded-host":
        found.forwarded_host = value


def _is_special(low: bytes) -> bool:
    return low in REQUEST_KINDS or low[:12] in (_STRANGLER, _FORWARDED)


def _nominations(value: bytes) -> frozenset[bytes]:
    names = frozenset(part.strip().lower() for part in value.split(b","))
    return names - _NEVER_NOMINATED - {b"keep-alive", b""}


def _without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for at in range(0, len(lines), 4):
        if lines[at].lower() not in names:
            kept += lines[at : at + 4]
    return kept
