"""Threads that a marked request starts.

What it gives to a `ThreadPoolExecutor` runs within its capture. A thread that code of the project starts by itself does
not: it may outlive the request, and serve later ones that are real. Its effects happen, so the answer carries no proof,
and the proxy mirrors no more such writes. Start it with `shadow_capture.in_context` around its target instead.

Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from strangler_proxy.contrib.shadow_capture import current

logger = logging.getLogger("strangler.shadow")

HAVE_EFFECTS = frozenset({"celery", "django", "httpx", "kombu", "requests", "smtplib", "urllib"})
"""Libraries whose functions are effects when they are a thread's target; of others a thread is housekeeping."""

_MARK = "_strangler_captures"
_OURS = "strangler_proxy"


def install() -> None:
    """Wrap `ThreadPoolExecutor.submit` and `Thread.start`. Safe to repeat."""
    for owner, name, how in ((ThreadPoolExecutor, "submit", _submit), (threading.Thread, "start", _start)):
        native = getattr(owner, name)
        if not getattr(native, _MARK, False):
            setattr(owner, name, _wrapped(native, how))


def _wrapped(native: Any, how: Any) -> Any:
    @functools.wraps(native)
    def captured(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None:
            return native(self, *args, **kwargs)
        return how(capture, native, self, *args, **kwargs)

    setattr(captured, _MARK, True)
    return captured


def _submit(capture: Any, native: Any, executor: Any, run: Any, *args: Any, **kwargs: Any) -> Any:
    return native(executor, contextvars.copy_context().run, run, *args, **kwargs)


def _start(capture: Any, native: Any, thread: Any) -> Any:
    if not capture.mirrors:
        return native(thread)
    target = getattr(thread, "_target", None)
    module = type(thread).__module__ if target is None else str(getattr(target, "__module__", "") or "")
    if _may_have_effects(module):
        capture.unproven("thread_started")
        logger.warning("shadow.thread_started", extra={"target": module})
    return native(thread)


@functools.lru_cache(maxsize=1024)
def _may_have_effects(module: str) -> bool:
    """Is this code of the project, or a function that is an effect by itself?"""
    top = module.partition(".")[0]
    if top in HAVE_EFFECTS:
        return True
    file = str(getattr(sys.modules.get(module), "__file__", "") or "")
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    return top != _OURS and bool(file) and not any(file.startswith(f"{path}/") for path in libraries if path)
