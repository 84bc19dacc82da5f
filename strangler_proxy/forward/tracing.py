"""Request ids and W3C trace context: continued where a client sent valid ones, begun where not."""

from __future__ import annotations

import itertools
import os
import re
from typing import Final

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?\Z"
)
_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
"""Odd, so that steps modulo 2**64 meet every value once, and spread evenly (sampling looks at the bits)."""


class Identities:
    """Makes ids that are unique to this process's life without asking the system for each."""

    __slots__ = ("_count", "_high", "_prefix", "_seed", "_span")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()
        self._high = b"%016x" % (int.from_bytes(os.urandom(8), "big") or 1)
        self._span = b"%08x" % (int.from_bytes(os.urandom(4), "big") or 1)
        self._seed = int.from_bytes(os.urandom(8), "big")
        self._count = itertools.count(1)

    def request_id(self, sent: bytes) -> bytes:
        """The client's own where it is 1..128 of `[A-Za-z0-9._-]`, else a new one."""
        if sent and _REQUEST_ID.match(sent):
            return sent
        return b"%b-%x" % (self._prefix, next(self._count))

    def trace_lines(self, traceparent: bytes, copies: int, tracestate: bytes) -> bytes:
        """`traceparent` with a new parent id, and `tracestate` where the trace is continued."""
        count = next(self._count) & 0xFFFFFFFF
        if copies == 1:
            found = _TRACEPARENT.match(traceparent)
            if found is not None:
                line = b"traceparent: 00-%b-%b%08x-%b\r\n" % (found[1], self._span, count, found[2])
                return line + b"tracestate: %b\r\n" % tracestate if tracestate else line
        spread = (self._seed + count * _STEP) & _MASK
        return b"traceparent: 00-%b%016x-%b%08x-01\r\n" % (self._high, spread, self._span, count)
