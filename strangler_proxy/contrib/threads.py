"""What a request gives to a `ThreadPoolExecutor` runs within its fence record: a fence met there answers the request.

A thread that code starts by itself does not: it may outlive the request, and would refuse writes for ever. Run it in
`contextvars.copy_context()` where the request waits for it. Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from strangler_proxy.contrib.record import current

_MARK = "_strangler_carries_record"


def install() -> None:
    """Wrap `ThreadPoolExecutor.submit`, for good; outside of a recorded request it changes nothing. Safe to repeat."""
    if not getattr(ThreadPoolExecutor.submit, _MARK, False):
        ThreadPoolExecutor.submit = _carrying(ThreadPoolExecutor.submit)  # type: ignore[method-assign]


def _carrying(submit: Any) -> Any:
    @functools.wraps(submit)
    def carrying(executor: Any, run: Any, /, *args: Any, **kwargs: Any) -> Any:
        if current.get() is None:
            return submit(executor, run, *args, **kwargs)
        return submit(executor, contextvars.copy_context().run, run, *args, **kwargs)

    setattr(carrying, _MARK, True)
    return carrying
