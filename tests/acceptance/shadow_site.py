"""A shop, twice: as the control, and as a candidate with planted faults among innocent noise (`--side`).

Run as a process. What is planted and what is only noise stands in `shadow_plants`; the faults of reads are in
`shadow_site_reads`, of writes in `shadow_site_writes`, the noise in `shadow_site_noise` and in every answer here.
"""

from __future__ import annotations

import argparse
import gzip
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from strangler_proxy.contrib.starlette.shadow import capture_effects
from tests.acceptance import shadow_site_noise, shadow_site_reads, shadow_site_writes

GZIP_FROM_BYTES = 20


class NoisyAnswers:
    """What differs in every answer and means nothing: Server, trace ids, age, a balancer's cookie, the gzip level."""

    def __init__(self, app: ASGIApp, *, candidate: bool) -> None:
        self.app = app
        self.candidate = candidate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                await self._send(scope, head, bytes(body), send)

        await self.app(scope, receive, collect)

    async def _send(self, scope: Scope, head: Message, body: bytes, send: Send) -> None:
        fields = MutableHeaders(scope=head)
        fields["server"] = "new/9" if self.candidate else "old/1"
        fields["x-trace"] = secrets.token_hex(8)
        fields["age"] = str(secrets.randbelow(300))
        fields["x-cached-for"] = str(secrets.randbelow(3_000))
        fields.append("set-cookie", f"lb={secrets.token_urlsafe(9)}; Path=/")
        packs = fields.get("content-type", "").startswith(("text/", "application/json"))
        if packs and len(body) >= GZIP_FROM_BYTES and scope["method"] != "HEAD":
            body = gzip.compress(body, 1 if self.candidate else 9)
            if self.candidate and scope["path"].startswith("/archives/"):
                body = body[:-12]  # planted: the end of the stream is missing
            fields["content-encoding"] = "gzip"
            fields["content-length"] = str(len(body))
        await send(head)
        await send({"type": "http.response.body", "body": body})


async def ready(request: Request) -> JSONResponse:
    """For whoever waits for the start."""
    return JSONResponse({"ready": True})


def create_app(side: str, database_url: str) -> Starlette:
    """One side."""
    pool: CapturingAsyncConnectionPool = CapturingAsyncConnectionPool(
        database_url, min_size=1, max_size=6, timeout=10.0, open=False
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    candidate = side == "candidate"
    app = Starlette(
        routes=[
            *shadow_site_reads.routes(),
            *shadow_site_noise.routes(),
            *shadow_site_writes.routes(),
            Route("/", ready),
        ],
        middleware=[Middleware(NoisyAnswers, candidate=candidate)],
        lifespan=lifespan,
    )
    app.state.candidate, app.state.pool = candidate, pool
    capture_effects(app)
    return app


def main() -> None:
    """Serve one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--side", choices=["control", "candidate"], required=True)
    parser.add_argument("--database", required=True)
    said = parser.parse_args()
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    uvicorn.run(create_app(said.side, said.database), host="127.0.0.1", port=said.port, **settings)


if __name__ == "__main__":
    main()
