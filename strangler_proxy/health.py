"""Health and metrics of a process on a port of its own: `/healthz`, `/readyz`, `/metrics`.

A few lines of HTTP/1.1 on the process's own event loop: nothing to import, nothing to break, and never on the port
that clients use. One request a connection, bounded in size, time and number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_LIMIT_BYTES: Final = 8_192
_TIMEOUT_S: Final = 5.0
_CONNECTIONS: Final = 64
_BIND_TRIES: Final = 20
_BIND_PAUSE_S: Final = 0.25
_TEXT: Final = "text/plain; charset=utf-8"
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


class HealthListener:
    """Answers for one process. `ready` says why it is not ready, empty if it is; `metrics` gives Prometheus text."""

    def __init__(self, *, ready: Callable[[], str], metrics: Callable[[], str]) -> None:
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._open = 0
        self.port = 0

    async def listen(self, host: str, port: int) -> None:
        """Bind; a port that is still taken (by a process that is leaving) is tried for 5 s. Raises OSError."""
        for attempt in range(_BIND_TRIES):
            try:
                self._server = await asyncio.start_server(self._answer, host, port, limit=_LIMIT_BYTES)
                self.port = self._server.sockets[0].getsockname()[1]
                return
            except OSError:
                if attempt == _BIND_TRIES - 1:
                    raise
                await asyncio.sleep(_BIND_PAUSE_S)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                async with asyncio.timeout(_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._response(head))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks like that gets no answer
        finally:
            self._open -= 1
            writer.close()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _framed(405, "Method Not Allowed", "only GET\n", head_only=False)
        head_only = method == b"HEAD"
        match path:
            case b"/healthz":
                return _framed(200, "OK", "ok\n", head_only=head_only)
            case b"/readyz":
                why_not = self._ready()
                if why_not:
                    return _framed(503, "Service Unavailable", f"{why_not}\n", head_only=head_only)
                return _framed(200, "OK", "ready\n", head_only=head_only)
            case b"/metrics":
                return _framed(200, "OK", self._metrics(), head_only=head_only, content_type=_METRICS)
            case _:
                return _framed(404, "Not Found", "there are /healthz, /readyz and /metrics\n", head_only=head_only)


def _framed(status: int, phrase: str, text: str, *, head_only: bool, content_type: str = _TEXT) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
