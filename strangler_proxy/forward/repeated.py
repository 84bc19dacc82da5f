"""Heads that came before, byte for byte, so that llhttp and the field rules need not read them again.

A client on a kept connection mostly repeats its fields, and so does an upstream. What a head means depends on nothing
but its bytes: llhttp starts every message in the same state, and a request's line and its fields are read apart. So a
head is remembered once llhttp has accepted it and our own rules have (and it came twice on one connection), and the
rest of the message is counted by its length. Only heads that leave nothing to watch are remembered: HTTP/1.1, kept
alive, one Host, a length or no body. Everything else, and every part of a head, goes to llhttp. Remembering changes
the speed, never what is answered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.headers import AnswerFields, Fields, RequestFields
from strangler_proxy.forward.routing import SAFE

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

END: Final = b"\r\n\r\n"
_LINE: Final = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1\Z")
_HEADS_KEPT: Final = 2_048
_LINES_KEPT: Final = 4_096
_LONGEST_HEAD: Final = 4_096
_LONGEST_LINE: Final = 512
_NO_BODY: Final = (204, 304)


class RequestHead:
    """A request's fields as llhttp split them and as our rules read them; `body_bytes` follow the head."""

    __slots__ = ("body_bytes", "fields", "raw")

    def __init__(self, raw: Fields, fields: RequestFields) -> None:
        self.raw = raw
        self.fields = fields
        self.body_bytes = max(fields.content_length, 0)


class AnswerHead:
    """An answer's status and fields; `body_bytes` follow the head, unless the request was HEAD."""

    __slots__ = ("body_bytes", "fields", "status")

    def __init__(self, status: int, fields: AnswerFields) -> None:
        self.status = status
        self.fields = fields
        self.body_bytes = fields.content_length


class Repeated:
    """What one process remembers, bounded: request lines, blocks of request fields, whole heads of answers."""

    __slots__ = ("answers", "lines", "requests")

    def __init__(self) -> None:
        self.lines: dict[bytes, tuple[bytes, bytes, bool]] = {}
        self.requests: dict[bytes, RequestHead] = {}
        self.answers: dict[bytes, AnswerHead] = {}

    def line(self, line: bytes) -> tuple[bytes, bytes, bool] | None:
        """Method, target and "is safe" of a request line that can be read in one way only; None: llhttp has to."""
        found = self.lines.get(line)
        if found is None and len(line) <= _LONGEST_LINE:
            read = _LINE.match(line)
            if read is not None:
                if len(self.lines) >= _LINES_KEPT:
                    self.lines.clear()
                found = self.lines[line] = (read[1], read[2], read[1] in SAFE)
        return found

    def learn_exchange(self, data: bytes, exchange: Exchange) -> None:
        """Remember the fields of the one request that `data` begins with, where nothing about it was special."""
        if exchange.keep_alive and not exchange.version_10 and exchange.problem is None:
            self.learn_request(data, exchange.raw_fields, exchange.fields)

    def learn_request(self, data: bytes, raw: Fields, fields: RequestFields) -> None:
        """Remember the fields of the request whose head `data` begins with: HTTP/1.1, its connection kept after it."""
        end, start = data.find(END), data.find(b"\r\n")
        if (
            not 0 < end <= _LONGEST_HEAD
            or fields.hosts != 1
            or fields.chunked
            or fields.expect
            or b"upgrade" in data[start:end].lower()
            or not _is_split_so(data[start + 2 : end], raw)
        ):
            return
        if len(self.requests) >= _HEADS_KEPT:
            self.requests.clear()
        self.requests[data[start:end]] = RequestHead(raw, fields)

    def learn_answer(self, data: bytes, status: int, raw: Fields, fields: AnswerFields) -> None:
        """Remember the head of a final answer that `data` begins with, after which its connection is kept."""
        end, start = data.find(END), data.find(b"\r\n")
        if (
            not 0 < end <= _LONGEST_HEAD
            or not data.startswith(b"HTTP/1.1 %d" % status)
            or status in _NO_BODY
            or status < 200
            or fields.content_length < 0
            or fields.chunked
            or fields.coded
            or fields.fence
            or fields.shadow
            or not _is_split_so(data[start + 2 : end], raw)
        ):
            return
        if len(self.answers) >= _HEADS_KEPT:
            self.answers.clear()
        self.answers[data[:end]] = AnswerHead(status, fields)


def _is_split_so(block: bytes, raw: Fields) -> bool:
    """Do these lines hold exactly these fields, one a line?"""
    lines = block.split(b"\r\n")
    return len(lines) == len(raw) and all(
        line[: len(name) + 1] == name + b":" and line[len(name) + 1 :].strip(b" \t") == value.strip(b" \t")
        for line, (name, value) in zip(lines, raw, strict=True)
    )
