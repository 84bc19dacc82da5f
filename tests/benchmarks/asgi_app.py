"""Our ASGI mode as a contestant, with all features on; the upstream's port from the environment."""

from __future__ import annotations

import os

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.signing import Signer
from tests.benchmarks.engine import SECRET, options, table

app = StranglerProxy(table(int(os.environ["BENCH_UPSTREAM_PORT"]), 1_000), options=options(), signer=Signer(SECRET))
