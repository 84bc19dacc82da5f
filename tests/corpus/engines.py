"""What the corpus is run against: anything that listens on a port and forwards to one upstream.

An engine is a context manager: given the upstream's port and the options, it yields the port that clients connect to.
To add one, add it to `ENGINES`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import uvloop

from strangler_proxy.core.route import Cluster, Endpoint, Timeouts
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState

EngineOf = Callable[[int, Options], AbstractContextManager[int]]

OPTIONS = Options(
    sweep_s=0.02,
    header_timeout_s=0.6,
    keep_alive_s=0.6,
    linger_s=0.1,
    max_body_bytes=1 << 20,
    timeouts=Timeouts(connect_s=0.5, first_byte_s=0.6, idle_s=0.6, total_s=1.0),
)
"""Budgets short enough that a case that runs into one takes a second."""


@contextmanager
def protocol_engine(upstream_port: int, options: Options = OPTIONS) -> Iterator[int]:
    """The engine of `strangler serve`, in a thread of its own."""
    upstream = Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=upstream_port),))
    own_writes = OwnWrites(None)
    state = ProxyState(RoutingTable.empty(upstream), options=options, signer=None, own_writes=own_writes)
    engine = Engine(state, options, ForwardMetrics())
    ready = threading.Event()
    stop: asyncio.Event
    loop: asyncio.AbstractEventLoop

    async def serve() -> None:
        nonlocal stop, loop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        await engine.listen("127.0.0.1", 0)
        ready.set()
        await stop.wait()
        await engine.drain(0)

    thread = threading.Thread(target=lambda: uvloop.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield engine.port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        own_writes.close()


ENGINES: dict[str, EngineOf] = {"protocol": protocol_engine}
