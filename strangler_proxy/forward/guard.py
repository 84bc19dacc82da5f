"""What a request has to be before anything of it is forwarded, and the head that goes to the upstream."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import RequestFields, passes_through, with_one_hop_less
from strangler_proxy.core.route import Access
from strangler_proxy.forward import errors
from strangler_proxy.forward.errors import Problem
from strangler_proxy.forward.replay import KeptBody
from strangler_proxy.forward.retry import IDEMPOTENT
from strangler_proxy.forward.routing import has_credentials
from strangler_proxy.forward.tunnel import REQUEST_LINES, WEBSOCKET

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OTHER_PROTOCOLS = frozenset(
    b"SOURCE DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER REDIRECT RECORD FLUSH".split()
)
"""llhttp reads Icecast and RTSP too."""
_COUNT_HOPS = (b"OPTIONS", b"TRACE")
_LOOKED_AT = _OTHER_PROTOCOLS | {b"CONNECT", b"OPTIONS"}


def admit(exchange: Exchange) -> Problem | None:
    """Read the fields, match the route, write the head to send; the problem where it may not pass.

    Raises MalformedFields and MalformedTarget.
    """
    context = exchange.context
    fields = exchange.fields = exchange.downstream.peer.read(exchange.raw_fields)
    exchange.request_id = request_id = context.identities.request_id(fields.request_id)
    if not fields.plain or exchange.version_10 or exchange.method in _LOOKED_AT:
        _look_again(exchange, fields)
        if exchange.method in _OTHER_PROTOCOLS:
            return errors.NOT_IMPLEMENTED
    exchange.edge = exchange.downstream.peer.edge(fields)
    state = context.state
    exchange.generation = state.unmatched
    runtime = state.matches.get((exchange.method, fields.host, exchange.target))
    if runtime is None:
        exchange.match()
        runtime = exchange.runtime
    else:
        exchange.runtime = runtime
        exchange.sent_target = exchange.target
    if runtime.guarded and runtime.route is not None:
        if runtime.route.access is Access.CLOSED:
            return errors.CLOSED
        if runtime.route.access is Access.BEARER and not has_credentials(fields, context.options.session_cookies):
            return errors.NO_CREDENTIALS
        if runtime.limit is not None:
            wait_s = runtime.limit.take(context.router.targeting_key(exchange), exchange.started)
            if wait_s:
                exchange.retry_after_s = ceil(wait_s)
                return errors.RATE_LIMITED
    block = fields.block
    if not fields.plain:
        problem = _problem(exchange, fields)
        if problem is not None:
            return problem
        if fields.max_forwards and exchange.method in _COUNT_HOPS:
            block = with_one_hop_less(fields)
        if fields.chunked or fields.content_length > 0:
            _expect_body(exchange, fields)
        elif fields.upgrade == WEBSOCKET and exchange.method == b"GET" and not exchange.version_10:
            exchange.tunnel = True
            block += REQUEST_LINES
    exchange.head = b"%b %b HTTP/1.1\r\n%b%b%b%bX-Request-Id: %b\r\n%b%b\r\n" % (
        exchange.method,
        exchange.sent_target,
        block,
        exchange.edge.lines,
        runtime.flag_line,
        context.via_line if not exchange.version_10 else context.via_line.replace(b"1.1", b"1.0", 1),
        request_id,
        context.identities.trace_lines(fields.traceparent, fields.traces, fields.tracestate),
        b"Transfer-Encoding: chunked\r\n" if fields.chunked else b"",
    )
    return None


def _look_again(exchange: Exchange, fields: RequestFields) -> None:
    if exchange.method == b"CONNECT":
        raise MalformedFields("this proxy does not tunnel")
    if exchange.method == b"OPTIONS" and b" RTSP/" in exchange.downstream.last_read:
        raise MalformedFields("RTSP is not HTTP")
    if fields.chunked and (exchange.version_10 or fields.content_length >= 0):
        raise MalformedFields("the body has two framings")
    if not fields.hosts:
        _host_for_10(exchange, fields)


def _problem(exchange: Exchange, fields: RequestFields) -> Problem | None:
    if fields.via and passes_through(fields.via, exchange.context.pseudonym):
        return errors.LOOP
    if fields.content_length > exchange.context.options.max_body_bytes:
        return errors.BODY_TOO_LARGE
    if fields.max_forwards and exchange.method in _COUNT_HOPS and not fields.max_forwards.strip(b"0"):
        return errors.LAST_HOP
    if fields.upgrade == WEBSOCKET and exchange.context.tunnels >= exchange.context.options.tunnel_limit:
        return errors.OVERLOADED
    if fields.expect and not exchange.version_10 and fields.expect != b"100-continue":
        return errors.EXPECTATION
    return None


def _host_for_10(exchange: Exchange, fields: RequestFields) -> None:
    if not exchange.version_10:
        raise MalformedFields("no Host field")
    fields.host = exchange.downstream.peer.local_host()
    fields.block = b"Host: %b\r\n%b" % (fields.host, fields.block)


def _expect_body(exchange: Exchange, fields: RequestFields) -> None:
    options = exchange.context.options
    exchange.has_body = True
    exchange.body_complete = False
    exchange.chunked = fields.chunked
    flag = exchange.runtime.flag
    keeps = exchange.method in IDEMPOTENT or (flag is not None and flag.owns_data)
    if keeps and fields.content_length <= options.replay_body_bytes:
        exchange.kept = KeptBody(exchange.context.state, options.replay_body_bytes)
    if fields.expect and not exchange.version_10:
        exchange.downstream.transport.write(CONTINUE)
