"""Wait until every live proxy holds: acknowledged, and what it had sent on before has ended or had its time."""

from __future__ import annotations

import asyncio
import time

from strangler_proxy.core.ports import FlagBoard, Heartbeat

IN_FLIGHT_S = 0.5
ACKNOWLEDGE_S = 1.5
_POLL_S = 0.01


class NotHeld(Exception):
    """A live proxy did not acknowledge the hold in time: it would go on sending writes."""


async def wait_until_held(flags: FlagBoard, flag: str, revision: int, *, within_s: float) -> str:
    """Returns a sentence for the person who watches. Raises NotHeld, naming the proxies.

    Unsafe requests that are in flight get `IN_FLIGHT_S` after the acknowledgement; then the fence handles the rest.
    """
    began = time.monotonic()
    limit = began + min(ACKNOWLEDGE_S, within_s)
    while True:
        proxies = await flags.live_proxies()
        missing = [proxy for proxy in proxies if proxy.revision < revision]
        if not missing:
            break
        if time.monotonic() > limit:
            raise NotHeld("no acknowledgement of the hold by " + ", ".join(_said(proxy) for proxy in missing))
        await asyncio.sleep(_POLL_S)
    held_at = time.monotonic()
    while left := sum(proxy.unsafe_in_flight.get(flag, 0) for proxy in proxies):
        if time.monotonic() - held_at > IN_FLIGHT_S:
            break
        await asyncio.sleep(_POLL_S)
        proxies = await flags.live_proxies()
    milliseconds = round((time.monotonic() - began) * 1000)
    return f"revision={revision} proxies={len(proxies)} in_flight={left} waited_ms={milliseconds}"


def _said(proxy: Heartbeat) -> str:
    return f"{proxy.proxy_id} (at revision {proxy.revision})"
