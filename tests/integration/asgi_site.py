"""Started by the tests of the ASGI mode: the proxy alone, and mounted in Starlette beside a page of its own."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.route import Route as ProxyRoute
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.forward.options import Options

SECRET = b"a secret of the tests"
table = RoutingTable.compile(
    revision=1,
    flags=(
        Flag(key="f", stage=Stage.MONOLITH, owns_data=True, owner=Origin.MONOLITH),
        Flag(key="moved", stage=Stage.EXTRACTED, owns_data=True, owner=Origin.EXTRACTED, owner_epoch=2),
    ),
    routes=tuple(
        ProxyRoute(
            name=key,
            flag=key,
            path=f"/{key}/**",
            clusters={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"},
        )
        for key in ("f", "moved")
    ),
    clusters=tuple(
        Cluster(name=name, endpoints=(Endpoint(host="127.0.0.1", port=int(os.environ[f"TEST_{name.upper()}_PORT"])),))
        for name in ("monolith", "extracted")
    ),
    default_cluster="monolith",
)
app = StranglerProxy(
    table,
    options=Options(sweep_s=0.05, max_header_count=40, max_body_bytes=1 << 26),
    signer=Signer(SECRET),
)

mirrored = StranglerProxy(
    table,
    options=Options(sweep_s=0.05),
    mirror=MirrorOptions(secret=SECRET),
    evidence=os.environ.get("TEST_EVIDENCE", "memory:"),
)


async def _own(request: Request) -> PlainTextResponse:
    return PlainTextResponse("own page")


mounted = Starlette(routes=[Route("/own", _own), Mount("/", app)])
