"""Proxies that a Python developer would take or write instead: run in the benchmark's own environment.

`starlette_httpx` is what one writes first: a Starlette route that streams through one httpx.AsyncClient.
"""

from __future__ import annotations

import os
from typing import Any

URL = f"http://127.0.0.1:{os.environ['BENCH_UPSTREAM_PORT']}"


def starlette_httpx() -> Any:
    """Starlette and httpx, streaming both ways."""
    import httpx
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    client = httpx.AsyncClient(base_url=URL, limits=httpx.Limits(max_connections=200, max_keepalive_connections=200))
    hop = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}

    async def forward(request: Request) -> StreamingResponse:
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        fields = [(n, v) for n, v in request.headers.raw if n.decode() not in hop]
        body = request.stream() if request.method not in ("GET", "HEAD") else None
        answer = await client.send(client.build_request(request.method, url, headers=fields, content=body), stream=True)
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in hop}
        return StreamingResponse(
            answer.aiter_raw(), status_code=answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "HEAD", "POST", "PUT", "DELETE"])])


def fastapi_proxy_lib() -> Any:
    """The proxy of fastapi-proxy-lib, in Starlette."""
    import httpx
    from fastapi_proxy_lib.core.http import ReverseHttpProxy
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    proxy = ReverseHttpProxy(httpx.AsyncClient(limits=limits), base_url=URL + "/")

    async def forward(request: Request) -> Response:
        return await proxy.proxy(request=request, path=request.path_params["path"])

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "HEAD", "POST"])])


def asgiproxy() -> Any:
    """asgiproxy, on aiohttp."""
    from asgiproxy.config import BaseURLProxyConfigMixin, ProxyConfig
    from asgiproxy.context import ProxyContext
    from asgiproxy.simple_proxy import make_simple_proxy_app

    class Config(BaseURLProxyConfigMixin, ProxyConfig):  # type: ignore[misc]
        upstream_base_url = URL
        rewrite_host_header = None

    return make_simple_proxy_app(ProxyContext(Config()))
