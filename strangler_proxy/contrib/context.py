"""Who asked, and in which trace: the request id and W3C trace context of the work under way.

Kept in contextvars, so that they follow `await`, `asyncio.create_task` and `sync_to_async`, but not a
`threading.Thread` that you start yourself (run it in `contextvars.copy_context()`).

Plain Python 3.9 and standard library only. Sources: docs/reference/wire.md; W3C Trace Context, level 1.
"""

from __future__ import annotations

import logging
import re
import secrets
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass

REQUEST_ID_HEADER = "X-Request-Id"
TRACEPARENT_HEADER = "traceparent"
TRACESTATE_HEADER = "tracestate"
TRACESTATE_MAX_CHARS = 512
"""Longer ones are dropped whole: a cut list is not a valid one."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")

request_id: ContextVar[str] = ContextVar("strangler_request_id", default="")
"""Id of the request under way; empty outside of one."""

traceparent: ContextVar[str] = ContextVar("strangler_traceparent", default="")
"""Encoded `TraceContext` of the work under way; its parent id is *our* span; empty outside of one."""

tracestate: ContextVar[str] = ContextVar("strangler_tracestate", default="")
"""Vendors' part of the trace context, passed on as it came; empty when there is none."""


def valid_request_id(text: str | None) -> bool:
    """Is this 1..128 of `[A-Za-z0-9._-]`? Anything else is not taken from a client.

    >>> valid_request_id("order-17.retry_2"), valid_request_id("a b"), valid_request_id("")
    (True, False, False)
    """
    return bool(text) and _REQUEST_ID.match(text or "") is not None


def new_request_id() -> str:
    """A fresh id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class TraceContext:
    """A position in a trace, as the `traceparent` header says it."""

    trace_id: str
    """32 lower-case hexadecimal digits, not all zero."""
    parent_id: str
    """16 lower-case hexadecimal digits, not all zero: the span that calls."""
    flags: int
    """0..255; bit 0 means sampled."""

    @classmethod
    def begin(cls, *, sampled: bool = True) -> TraceContext:
        """The first span of a new trace."""
        return cls(trace_id=_nonzero_hex(16), parent_id=_nonzero_hex(8), flags=1 if sampled else 0)

    @classmethod
    def parse(cls, header: str | None) -> TraceContext | None:
        """Read a `traceparent`; None where it is not a valid one.

        A later version than 00 is read by the fields of 00, as the standard asks; version ff is invalid.

        >>> TraceContext.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").flags
        1
        >>> TraceContext.parse("00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
        True
        """
        match = _TRACEPARENT.match((header or "").strip())
        if match is None:
            return None
        version, trace_id, parent_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest):
            return None
        if set(trace_id) == {"0"} or set(parent_id) == {"0"}:
            return None
        return cls(trace_id=trace_id, parent_id=parent_id, flags=int(flags, 16))

    def child(self) -> TraceContext:
        """The same trace with a new span id: what a server makes of what it was sent."""
        return TraceContext(trace_id=self.trace_id, parent_id=_nonzero_hex(8), flags=self.flags)

    def encode(self) -> str:
        """The value of the `traceparent` header, version 00."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags & 0xFF:02x}"


def _nonzero_hex(size_bytes: int) -> str:
    while True:
        text = secrets.token_hex(size_bytes)
        if set(text) != {"0"}:
            return text


@contextmanager
def bind_request(
    request_id_given: str | None = None,
    traceparent_given: str | None = None,
    tracestate_given: str | None = None,
) -> Iterator[str]:
    """Within it, logs and outbound headers carry this request id and trace; yields the id.

    What is missing or invalid is made: a new id, a new trace. A valid trace is continued with a new span. Bad
    values are never an error: they come from a client.
    """
    tokens = begin_request(request_id_given, traceparent_given, tracestate_given)
    try:
        yield request_id.get()
    finally:
        end_request(tokens)


Tokens = tuple[Token[str], Token[str], Token[str]]


def begin_request(request_id_given: str | None, traceparent_given: str | None, tracestate_given: str | None) -> Tokens:
    """`bind_request` for code that begins and ends in different functions (signals)."""
    made = request_id_given if request_id_given and valid_request_id(request_id_given) else new_request_id()
    parent = TraceContext.parse(traceparent_given)
    trace = parent.child() if parent is not None else TraceContext.begin()
    state = (tracestate_given or "") if parent is not None else ""
    if len(state) > TRACESTATE_MAX_CHARS or not state.isprintable():
        state = ""
    return request_id.set(made), traceparent.set(trace.encode()), tracestate.set(state)


def end_request(tokens: Tokens) -> None:
    """Undo `begin_request`."""
    request_id.reset(tokens[0])
    traceparent.reset(tokens[1])
    tracestate.reset(tokens[2])


def outbound_headers() -> dict[str, str]:
    """Headers for an HTTP call or a message made on behalf of the request under way; `{}` outside of one."""
    headers = {
        REQUEST_ID_HEADER: request_id.get(),
        TRACEPARENT_HEADER: traceparent.get(),
        TRACESTATE_HEADER: tracestate.get(),
    }
    return {name: value for name, value in headers.items() if value}


def bind_headers(headers: Mapping[str, str]) -> Tokens:
    """`begin_request` from what `outbound_headers` made at the other end (a message, a task)."""
    lower = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    return begin_request(
        lower.get(REQUEST_ID_HEADER.lower()), lower.get(TRACEPARENT_HEADER), lower.get(TRACESTATE_HEADER)
    )


def log_fields() -> dict[str, str]:
    """`request_id`, `trace_id` and `span_id` of the request under way, for a log line; `{}` outside of one."""
    fields = {}
    if request_id.get():
        fields["request_id"] = request_id.get()
    trace = TraceContext.parse(traceparent.get())
    if trace is not None:
        fields["trace_id"], fields["span_id"] = trace.trace_id, trace.parent_id
    return fields


class ContextFilter(logging.Filter):
    """Puts `request_id`, `trace_id`, `span_id` on each record: for projects on plain `logging`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; fields are empty outside of a request, so that a format string may name them."""
        fields = log_fields()
        for name in ("request_id", "trace_id", "span_id"):
            if not hasattr(record, name):
                setattr(record, name, fields.get(name, ""))
        return True
