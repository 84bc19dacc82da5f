"""Our engine as a contestant: `python -m tests.benchmarks.engine MODE PORT UPSTREAM_PORT [ROUTES]`.

`plain` sends everything to one upstream; `full` has a table of 1,000 routes and 20 flags, canary by bucket, flags that
own data (kept bodies, read-your-writes), signed visitor cookies, counters, histograms, deadlines.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState

SECRET = b"a secret of the benchmark, no other"
FLAGS = 20
SERVED = ("/1k.json", "/64k.json", "/post")


def options() -> Options:
    """As `strangler serve` sets them; NGINX keeps the connections of this benchmark for an hour."""
    return Options(upstream_keep_alive_s=30.0)


def visitor_cookie() -> str:
    """What a browser sends from its second request on."""
    return Signer(SECRET).visitor_cookie("Zm9yIHRoZSBiZW5jaG1h")


def table(upstream_port: int, routes: int) -> RoutingTable:
    """`routes` routes over 20 flags; the ones that the load asks for are among them."""
    both = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}
    paths = [*SERVED, *(f"/area{n % 50}/part{n}/{{id}}/**" for n in range(routes - len(SERVED)))]
    endpoint = (Endpoint(host="127.0.0.1", port=upstream_port),)
    return RoutingTable.compile(
        revision=1,
        flags=[
            Flag(key=f"flag{n}", stage=Stage.CANARY, weight=500 * n, owns_data=n % 2 == 0, owner=Origin.MONOLITH)
            for n in range(FLAGS)
        ],
        routes=[
            Route(name=f"route{n}", flag=f"flag{n % FLAGS}" if n >= len(SERVED) else "flag10", path=path, clusters=both)
            for n, path in enumerate(paths)
        ],
        clusters=[Cluster(name=name, endpoints=endpoint) for name in ("monolith", "extracted")],
        default_cluster="monolith",
    )


def state(mode: str, upstream_port: int, routes: int = 1_000) -> ProxyState:
    """The state that the mode asks for."""
    signer = None if mode == "plain" else Signer(SECRET)
    if mode == "plain":
        endpoint = (Endpoint(host="127.0.0.1", port=upstream_port),)
        made = RoutingTable.empty(Cluster(name="default", endpoints=endpoint))
    else:
        made = table(upstream_port, routes)
    return ProxyState(made, options=options(), signer=signer, own_writes=OwnWrites(None))


async def serve(mode: str, port: int, upstream_port: int, routes: int, *, shared: bool) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = Engine(state(mode, upstream_port, routes), options(), ForwardMetrics())
    await engine.listen("127.0.0.1", port, reuse_port=shared)
    await stop.wait()
    await engine.drain(0)


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("plain", "full"))
    parser.add_argument("port", type=int)
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--routes", type=int, default=1_000)
    parser.add_argument("--shared", action="store_true", help="several processes on one port")
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.mode, chosen.port, chosen.upstream_port, chosen.routes, shared=chosen.shared))


if __name__ == "__main__":
    main()
