"""What the tests of the mirror stand on: the engine's rig with a mirror, and a sink that keeps all it is given."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED, Answer, Pair, Seen, Side
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.shadow_wire import (
    EFFECTS_HEADER,
    PROOF_HEADER,
    RECORDED_HEADER,
    SHADOW_HEADER,
    ShadowKeys,
    ShadowRequest,
    encode_effects,
    proof_value,
    read_request,
)
from strangler_proxy.core.stage import Stage
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.mirror import Mirror
from strangler_proxy.forward.mirror_metrics import PAIRED
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import SECRET, Rig, Script, wait_until
from tests.integration.engine_rig import Seen as Request


class Kept:
    """A sink that keeps everything: what it was told is what happened."""

    def __init__(self) -> None:
        self.exact = True
        self.seen: list[Seen] = []
        self.pairs: list[Pair] = []

    def note(self, seen: Seen) -> None:
        """Keep it."""
        self.seen.append(seen)

    def take(self, pair: Pair) -> None:
        """Keep it."""
        self.pairs.append(pair)

    @property
    def fates(self) -> Counter[str]:
        """How many ended how; a pair as `pair`."""
        return Counter(seen.fate for seen in self.seen) + Counter({PAIRED: len(self.pairs)})

    @property
    def drops(self) -> Counter[str]:
        """Reasons alone."""
        return Counter(seen.fate for seen in self.seen if seen.fate not in (EQUAL, NOT_SAMPLED))

    def __len__(self) -> int:
        return len(self.seen) + len(self.pairs)


class MirrorRig(Rig):
    """The engine's rig, mirroring: at stage `shadow` the monolith is the control, extracted the candidate."""

    def __init__(
        self,
        options: Options | None = None,
        *,
        candidate: bool = False,
        bounds: dict[str, Any] | None = None,
        **flag: Any,
    ) -> None:
        self.sink = Kept()
        self._bounds = {"deadline_s": 1.0, "connect_s": 0.5, "sweep_s": 0.02} | (bounds or {})
        self._candidate = candidate
        super().__init__(options, **({"stage": Stage.SHADOW} | flag))

    def make_engine(self) -> Engine:
        """Called by the rig before it listens."""
        cluster = Cluster(name="candidate", endpoints=(Endpoint(host="127.0.0.1", port=self.extracted.port),))
        options = MirrorOptions(secret=SECRET, candidate=cluster if self._candidate else None, **self._bounds)
        self.mirror = Mirror(self.state, options, self.sink)
        self.state.mirrors_unmatched = self._candidate
        self.state.swap(self.state.table)
        return Engine(self.state, self.options, self.metrics, self.mirror)

    def drain(self, seconds: float) -> None:
        """The engine first, then the mirror."""
        super().drain(seconds)
        asyncio.run_coroutine_threadsafe(self.mirror.close(), self._loop).result(5)

    def wait(self, count: int, timeout_s: float = 5.0) -> bool:
        """Until so many requests were told to the sink, and nothing is under way."""
        return wait_until(
            lambda: len(self.sink) >= count and not self.mirror.queued and not self.mirror.under_way, timeout_s
        )

    def ask(self, pair: Pair, side: Side) -> Answer:
        """Ask a side once more."""
        return asyncio.run_coroutine_threadsafe(self.mirror.ask(pair, side), self._loop).result(10)


@contextmanager
def mirroring(
    options: Options | None = None, *, candidate: bool = False, bounds: dict[str, Any] | None = None, **flag: Any
) -> Iterator[MirrorRig]:
    """A rig for the length of a block."""
    made = MirrorRig(options, candidate=candidate, bounds=bounds, **flag)
    try:
        yield made
    finally:
        made.stop()


def prove(rig: MirrorRig, flag: str = "f") -> None:
    """Take it that the candidate has just proved that it captures effects."""
    origin = "monolith" if rig.state.table.flags["f"].stage is Stage.EXTRACTED else "extracted"
    (endpoint,) = rig.state.table.clusters[origin].endpoints
    rig.call(lambda: rig.mirror.proofs.proved(flag, endpoint, time.monotonic()))


def mark(request: Request, keys: ShadowKeys | None = None) -> ShadowRequest | None:
    """The valid mark of a request as an upstream saw it, None where there is none."""
    found = request.values(SHADOW_HEADER)
    if len(found) != 1:
        return None
    return read_request(keys or ShadowKeys(SECRET), found[0].decode(), now=time.time())


def capturing(
    *effects: dict[str, Any],
    body: bytes = b"ok",
    status: bytes = b"200 OK",
    forged: bool = False,
    undo: Sequence[dict[str, Any]] = (),
) -> Script:
    """A side with the adapter: it answers a marked request with its effects, how to undo them, and a proof."""
    keys = ShadowKeys(SECRET if not forged else b"some other secret, of nobody")

    def script(request: Request, _: object) -> bytes:
        marked = mark(request)
        fields = b""
        if marked is not None:
            assert marked.fits_body(request.body)
            assert marked.fits_recorded([value.decode() for value in request.values(RECORDED_HEADER)])
            values = encode_effects(effects, undo)
            lines = [f"{EFFECTS_HEADER}: {value}\r\n" for value in values]
            lines.append(f"{PROOF_HEADER}: {proof_value(keys, marked, values)}\r\n")
            fields = "".join(lines).encode()
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)

    return script
