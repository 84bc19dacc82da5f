"""Answers of the proxy's own to a request: what it gets where no upstream serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strangler_proxy.forward.errors import Problem, problem_answer
from strangler_proxy.forward.metrics import PROBLEMS
from strangler_proxy.forward.phase import ANSWERING, DONE

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange


def refuse(exchange: Exchange, problem: Problem, detail: str) -> None:
    """Answer it ourselves; where the answer has begun already, break the connection so that nobody is misled."""
    if exchange.phase is DONE:
        return
    context = exchange.context
    context.metrics.count(PROBLEMS, code=problem.code)
    exchange.leave_upstream("refused")
    if exchange.phase is ANSWERING:
        exchange.downstream.abort()
        exchange.finish(close=True)
        return
    exchange.status = problem.status
    close = problem.closes or not exchange.body_complete or not exchange.keep_alive or context.leaving
    answer = problem_answer(
        problem,
        pseudonym=context.pseudonym,
        request_id=exchange.request_id or context.identities.request_id(b""),
        close=close,
        head_only=exchange.method == b"HEAD",
        retry_after_s=exchange.retry_after_s or context.options.retry_after_s,
        detail=detail,
    )
    exchange.downstream.transport.write(answer)
    exchange.finish(close=close)
