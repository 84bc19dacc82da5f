"""One canonical line per request, on the standard library's `logging`: any project's set-up can take it.

The line is the event `request.answered` of the logger `strangler.access`; its facts are attributes of the record
(`extra`), which `observe.configure_logging` writes as keys. Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("strangler.access")


def access_line(
    *, service: str, method: str, path: str, route: str, status: int, seconds: float, quiet: bool = False, **facts: Any
) -> None:
    """Log one answered request. `path` is without its query (it may hold tokens); `route` is the template.

    A `quiet` line (a probe that was answered well) has the level DEBUG, an answer of 500 and above WARNING.
    """
    level = logging.WARNING if status >= 500 else logging.DEBUG if quiet else logging.INFO
    fields = {
        "service": service,
        "method": method,
        "path": path,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        **facts,
    }
    logger.log(level, "request.answered", extra=fields)
