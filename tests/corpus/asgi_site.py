"""Started by the corpus under ASGI servers: the proxy alone, before the recorder at `TEST_UPSTREAM_PORT`."""

from __future__ import annotations

import os

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.table import RoutingTable
from tests.corpus.engines import OPTIONS

_upstream = Cluster(
    name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=int(os.environ["TEST_UPSTREAM_PORT"])),)
)
app = StranglerProxy(RoutingTable.empty(_upstream), options=OPTIONS)
