"""Requests that wait: in the gate of a held flag, or between tries while both sides are fenced. And their deadlines."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from strangler_proxy.core.breaker import Outcome
from strangler_proxy.forward import errors, retry
from strangler_proxy.forward.metrics import CLIENT_LEFT, UPSTREAM_ERRORS
from strangler_proxy.forward.phase import ANSWERING, CONNECTING, DONE, HELD, NEW, SENT
from strangler_proxy.forward.settling import settle

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

LAST_BACKOFF_S = 0.32


def hold(exchange: Exchange) -> bool:
    """Put a request into its flag's gate; False, and answered 503, where the gate is full."""
    exchange.uncount()
    flag_runtime = exchange.runtime.flag_runtime
    assert flag_runtime is not None
    if not flag_runtime.gate.enter(exchange):
        exchange.refuse(errors.HOLD_FULL)
        return False
    exchange.phase = HELD
    exchange.held_at = monotonic()
    if not exchange.hold_until:
        exchange.hold_until = exchange.held_at + exchange.context.options.hold_timeout_s
    exchange.deadline = exchange.hold_until
    return True


def back_off(exchange: Exchange) -> None:
    """Both sides are fenced: wait a little longer each time, up to the limit of a hold."""
    if hold(exchange):
        delay_s = exchange.backoff_s
        exchange.backoff_s = min(2 * delay_s, LAST_BACKOFF_S)
        exchange.timer = exchange.context.loop.call_later(delay_s, go_on, exchange)


def go_on(exchange: Exchange) -> None:
    """Decide a waiting request anew and send it."""
    if exchange.phase is HELD:
        leave(exchange, "released")
        exchange.phase = NEW
        exchange.proceed()
        exchange.flush()


def leave(exchange: Exchange, outcome: str) -> None:
    """Take a request out of its gate, if it is in one: `released`, `timeout`, `refused` or `left`."""
    if exchange.timer is not None:
        exchange.timer.cancel()
        exchange.timer = None
    if exchange.phase is not HELD:
        return
    flag_runtime = exchange.runtime.flag_runtime
    assert flag_runtime is not None
    flag_runtime.gate.leave(exchange)
    waited_s = monotonic() - exchange.held_at
    exchange.held_s += waited_s
    exchange.context.metrics.held(flag_runtime.key, outcome, waited_s)


def leave_upstream(exchange: Exchange, outcome: str) -> None:
    """Take a request away from wherever it is or waits: `refused` or `left`."""
    leave(exchange, outcome)
    if exchange.pool is not None:
        exchange.pool.forget(exchange)
    upstream = exchange.upstream
    if upstream is not None:
        exchange.upstream = None
        if upstream.exchange is exchange:
            upstream.detach()


def client_left(exchange: Exchange) -> None:
    """Nobody waits for the answer any more."""
    if exchange.phase is not DONE:
        exchange.context.metrics.count(CLIENT_LEFT)
        leave_upstream(exchange, "left")
        exchange.lane = None
        exchange.status = 499
        exchange.finish(close=True)


def check(exchange: Exchange, now: float) -> None:
    """Look at the deadlines of a request. `moved` says that bytes came since the last look."""
    if exchange.phase is HELD:
        if now >= exchange.hold_until:
            leave(exchange, "timeout")
            exchange.phase = NEW
            exchange.refuse(errors.HELD_TOO_LONG)
    elif now >= exchange.started + exchange.runtime.timeouts.total_s:
        _expire(exchange)
    elif exchange.moved:
        exchange.moved = False
        if exchange.phase is ANSWERING or not exchange.body_complete:
            exchange.deadline = now + exchange.runtime.timeouts.idle_s
    elif now >= exchange.deadline:
        _expire(exchange)


def _expire(exchange: Exchange) -> None:
    if exchange.phase is CONNECTING:
        exchange.refuse(errors.OVERLOADED)
    elif exchange.phase is SENT and not exchange.body_complete and not exchange.downstream.body_paused:
        exchange.refuse(errors.TOO_SLOW)
    else:
        _no_answer(exchange)


def _no_answer(exchange: Exchange) -> None:
    """The upstream took too long, or its answer stalled; not its fault where the client does not read."""
    if exchange.phase is SENT and monotonic() < exchange.started + exchange.runtime.timeouts.total_s:
        exchange.leave_upstream("refused")
        retry.failed(exchange, errors.NO_ANSWER, late=True)
        return
    name, error = exchange.decision.cluster.name, errors.NO_ANSWER.error
    exchange.context.metrics.count(UPSTREAM_ERRORS, cluster=name, error=error)
    upstream = exchange.upstream
    if upstream is not None and not upstream.is_paused:
        settle(exchange, Outcome.FAILURE)
    exchange.refuse(errors.NO_ANSWER)
