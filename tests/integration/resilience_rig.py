"""An engine before clusters of several upstreams, with policies: what the tests of resilience stand on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.route import Cluster, Endpoint, Route, Timeouts
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Answer, Rig, Seen, Upstream, ok
from tests.servers import free_port

T = TypeVar("T")
QUICK = Timeouts(connect_s=0.5, first_byte_s=0.5, idle_s=0.5, total_s=3.0)
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick"
NEVER_OPENS = BreakerPolicy(failures=0)
NEVER_EJECTS = OutlierPolicy(failures=0)


class ClusterRig(Rig):
    """`/f/**` is of flag `f`, stage extracted; cluster `extracted` has `size` upstreams (`self.many`)."""

    def __init__(
        self,
        *,
        size: int = 1,
        options: Options | None = None,
        cluster: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        **flag: Any,
    ) -> None:
        self.many = [Upstream(f"extracted-{number}") for number in range(size)]
        self.cluster_options = cluster or {}
        self.route_options = {"timeouts": QUICK, **(route or {})}
        self.ports: list[int] | None = None
        super().__init__(options or Options(sweep_s=0.02), **flag)

    def table(self, *, stage: Stage = Stage.EXTRACTED, owns_data: bool = False, **flag: Any) -> RoutingTable:
        """A table with the flag so, and the options of this rig."""
        self.revision += 1
        both = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}
        ports = self.ports or [each.port for each in self.many]
        return RoutingTable.compile(
            revision=self.revision,
            flags=(
                Flag(
                    key="f",
                    stage=stage,
                    owns_data=owns_data,
                    owner=flag.pop("owner", Origin.EXTRACTED if stage.position >= 3 else Origin.MONOLITH),
                    **flag,
                ),
            ),
            routes=(
                Route(name="f", flag="f", path="/f/**", clusters=both, **self.route_options),
                Route(name="other", flag="f", path="/other/**", clusters=both, timeouts=QUICK),
            ),
            clusters=(
                Cluster(name="monolith", endpoints=(at(self.monolith.port),)),
                Cluster(name="extracted", endpoints=tuple(map(at, ports)), **self.cluster_options),
            ),
            default_cluster="monolith",
        )

    def stop(self) -> None:
        """Stop everything."""
        super().stop()
        for each in self.many:
            each.stop()

    @property
    def counts(self) -> list[int]:
        """Requests that each of the many has seen."""
        return [len(each.seen) for each in self.many]

    def call_async(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run on the engine's loop; its result."""
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(5)

    def sick(self) -> dict[str, list[str]]:
        """What the heartbeat says of upstreams."""
        return {kind: list(names) for kind, names in self.call(lambda: self.state.sick_upstreams()).items()}


def at(port: int) -> Endpoint:
    """An endpoint on this host."""
    return Endpoint(host="127.0.0.1", port=port)


def nobody_listens() -> int:
    """A port that refuses connections."""
    return free_port()


@contextmanager
def cluster_rig(**options: Any) -> Iterator[ClusterRig]:
    """A rig for the length of a block."""
    made = ClusterRig(**options)
    try:
        yield made
    finally:
        made.stop()


def at_once(rig: ClusterRig, number: int, get: Callable[[int], Answer]) -> list[Answer]:
    """So many requests at once, each from a thread of its own."""
    answers: list[Answer] = []
    gate = threading.Barrier(number)

    def run(index: int) -> None:
        gate.wait(10)
        answers.append(get(index))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


def closing(_: Seen, __: object) -> None:
    """End the connection without an answer."""
    return None


__all__ = ["UNAVAILABLE", "ClusterRig", "at_once", "closing", "cluster_rig", "nobody_listens", "ok"]
