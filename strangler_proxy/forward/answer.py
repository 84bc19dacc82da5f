"""The head of an answer: framing for this client, what is dropped, and what we add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import AnswerFields, read_answer_fields
from strangler_proxy.forward.errors import reason_phrase

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status)) for status in range(100, 600)}


def status_line(status: int) -> bytes:
    """The status line; the phrase is the usual one, not the upstream's."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def answer_head(exchange: Exchange, status: int, answer: AnswerFields, *, bodiless: bool) -> bytes:
    """Write the head of an answer, and note on the exchange how its body is framed for this client.

    A body without a length is sent chunked, so that an HTTP/1.1 client can tell the end from a break; an HTTP/1.0
    client is told by the end of the connection.
    """
    sized = bodiless or answer.content_length >= 0
    if sized and exchange.keep_alive and not exchange.version_10 and not exchange.context.leaving:
        return b"%b%b%bX-Request-Id: %b\r\n%b\r\n" % (
            STATUS_LINES.get(status) or status_line(status),
            answer.block,
            exchange.context.via_line,
            exchange.request_id,
            visitor_lines(exchange) if exchange.runtime.flag is not None else b"",
        )
    context = exchange.context
    if sized:
        exchange.answer_chunked = False
    elif exchange.version_10:
        exchange.keep_alive = False
    else:
        exchange.answer_chunked = True
    if context.leaving:
        exchange.keep_alive = False
    tail = b""
    if exchange.answer_chunked:
        tail = b"Transfer-Encoding: chunked\r\n"
    if not exchange.keep_alive:
        tail += b"Connection: close\r\n"
    elif exchange.version_10:
        tail += b"Connection: keep-alive\r\n"
    return b"%b%b%bX-Request-Id: %b\r\n%b%b\r\n" % (
        status_line(status),
        answer.block,
        context.via_line,
        exchange.request_id,
        visitor_lines(exchange),
        tail,
    )


def informational_head(status: int, raw: list[tuple[bytes, bytes]]) -> bytes:
    """An interim answer (1xx) with the same fields dropped; empty where they make no sense."""
    try:
        block = read_answer_fields(raw).block
    except MalformedFields:
        return b""
    return b"%b%b\r\n" % (status_line(status), block)


def visitor_lines(exchange: Exchange) -> bytes:
    """Cookies of the proxy, and why it went where it went for callers that may know."""
    if exchange.runtime.flag is None:
        return b""
    router = exchange.context.router
    if exchange.safe and exchange.fields.identity and not exchange.told_why and not exchange.fields.debug:
        return b""
    lines = router.visitor_line(exchange)
    if not exchange.safe and exchange.runtime.flag.owns_data:
        lines += router.own_write_line(exchange)
    if exchange.told_why or (exchange.fields.debug and exchange.downstream.peer.trusted):
        reason = exchange.decision.reason.name.lower()
        if exchange.fallen_back:
            reason = "fallback-stale" if exchange.stale else "fallback"
        lines += b"X-Strangler-Origin: %b\r\nX-Strangler-Reason: %b\r\n" % (
            exchange.served_by.value.encode(),
            reason.encode(),
        )
    return lines
