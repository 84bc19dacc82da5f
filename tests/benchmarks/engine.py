"""Our engine as a contestant: `python -m tests.benchmarks.engine MODE PORT UPSTREAM_PORT [--routes N] ...`.

`plain` sends everything to one upstream; `full` has a table of 1,000 routes and 20 flags, canary by bucket, flags that
own data (kept bodies, read-your-writes), signed visitor cookies, counters, histograms, deadlines. `fenced` is `full`
where every write goes to the side that does not own the data any more, and is replayed to the owner; `held` is `full`
where every write waits in the gate of its flag for the moment that it takes to be released.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Callable

import uvloop

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.context import Context
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.routing import Router
from strangler_proxy.forward.state import ProxyState
from tests.benchmarks.cutover import HoldingRouter, StaleRouter

SECRET = b"a secret of the benchmark, no other"
FLAGS = 20
SERVED = ("/1k.json", "/64k.json", "/post", "/2k.json")
_ROUTERS: dict[str, Callable[[ProxyState, ForwardMetrics], Router]] = {"fenced": StaleRouter, "held": HoldingRouter}


def options() -> Options:
    """As `strangler serve` sets them; NGINX keeps the connections of this benchmark for an hour."""
    return Options(upstream_keep_alive_s=30.0)


def visitor_cookie() -> str:
    """What a browser sends from its second request on."""
    return Signer(SECRET).visitor_cookie("Zm9yIHRoZSBiZW5jaG1h")


def table(
    upstream_port: int,
    routes: int,
    flags: int = FLAGS,
    *,
    owner: Origin = Origin.MONOLITH,
    monolith_port: int | None = None,
) -> RoutingTable:
    """`routes` routes over `flags` flags; the ones that the load asks for are among them, of the flag in the middle."""
    both = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}
    paths = [*SERVED, *(f"/area{n % 50}/part{n}/{{id}}/**" for n in range(routes - len(SERVED)))]
    asked = f"flag{flags // 2}"
    ports = {"monolith": monolith_port or upstream_port, "extracted": upstream_port}
    return RoutingTable.compile(
        revision=1,
        flags=[
            Flag(
                key=f"flag{n}",
                stage=Stage.CANARY,
                weight=10_000 * n // flags,
                owns_data=n % 2 == 0 or f"flag{n}" == asked,
                owner=owner,
                owner_epoch=1 if owner is Origin.EXTRACTED else 0,
            )
            for n in range(flags)
        ],
        routes=[
            Route(name=f"route{n}", flag=f"flag{n % flags}" if n >= len(SERVED) else asked, path=path, clusters=both)
            for n, path in enumerate(paths)
        ],
        clusters=[
            Cluster(name=name, endpoints=(Endpoint(host="127.0.0.1", port=port),)) for name, port in ports.items()
        ],
        default_cluster="monolith",
    )


class BenchedEngine(Engine):
    """The engine, with another router where the mode asks for it."""

    def __init__(self, state: ProxyState, metrics: ForwardMetrics, mode: str) -> None:
        super().__init__(state, options(), metrics)
        self._router = _ROUTERS.get(mode)

    def start(self) -> Context:
        """As the engine does."""
        context = super().start()
        if self._router is not None:
            context.router = self._router(self.state, self.metrics)
        return context


def state(mode: str, chosen: argparse.Namespace) -> ProxyState:
    """The state that the mode asks for."""
    if mode == "plain":
        endpoint = (Endpoint(host="127.0.0.1", port=chosen.upstream_port),)
        made = RoutingTable.empty(Cluster(name="default", endpoints=endpoint))
        return ProxyState(made, options=options(), signer=None, own_writes=OwnWrites(None))
    made = table(
        chosen.upstream_port,
        chosen.routes,
        chosen.flags,
        owner=Origin.EXTRACTED if mode == "fenced" else Origin.MONOLITH,
        monolith_port=chosen.monolith_port,
    )
    return ProxyState(made, options=options(), signer=Signer(SECRET), own_writes=OwnWrites(None))


async def serve(chosen: argparse.Namespace) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = BenchedEngine(state(chosen.mode, chosen), ForwardMetrics(), chosen.mode)
    await engine.listen("127.0.0.1", chosen.port, reuse_port=chosen.processes > 1)
    await stop.wait()
    await engine.drain(0)


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("plain", "full", "fenced", "held"))
    parser.add_argument("port", type=int)
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--monolith-port", type=int, help="where the monolith is, if not at the upstream's port")
    parser.add_argument("--routes", type=int, default=1_000)
    parser.add_argument("--flags", type=int, default=FLAGS)
    parser.add_argument("--processes", type=int, default=1, help="so many share the port")
    chosen = parser.parse_args()
    children = _forked(chosen.processes - 1)
    try:
        uvloop.run(serve(chosen))
    finally:
        for child in children:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


def _forked(number: int) -> list[int]:
    """So many children, that go on from here as their parent does."""
    children: list[int] = []
    for _ in range(number):
        child = os.fork()
        if not child:
            return []
        children.append(child)
    return children


if __name__ == "__main__":
    main()
