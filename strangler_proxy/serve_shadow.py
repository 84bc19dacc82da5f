"""Shadow mode of one proxy process: its mirror, and the link to the process that compares.

The link is started when there is something to mirror: at once where a candidate is given, else when a flag of the table
is in a stage that mirrors. Until then nothing is mirrored and nothing counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from strangler_proxy.core.stage import STAGE_TABLE
from strangler_proxy.core.stage import Mirror as Mirrored
from strangler_proxy.forward.mirror import Mirror
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.shadow.link import JudgeLink
from strangler_proxy.shadow.options import JudgeSettings

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.5
_SPAWN_S: Final = 2.0
_UNDER_WAY_S: Final = 1.5
_LINK_S: Final = 5.0

LEAVING_S: Final = _UNDER_WAY_S + _LINK_S
"""How long a process may take to leave after its drain."""


class Shadow:
    """Made for a state; `mirror` is for its engine. `start`, then `close` once the engine has drained."""

    def __init__(self, state: ProxyState, options: MirrorOptions, evidence: str) -> None:
        self.mirror = Mirror(state, options)
        self._state = state
        self._options = options
        self._evidence = evidence
        self._link: JudgeLink | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Compare from now on, where something is mirrored; else watch the table for that."""
        if self._options.candidate is not None:
            await self._begin()
        else:
            self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Let copies under way end, then the link, which may ask once more; what it counted is then published."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.mirror.drain(_UNDER_WAY_S)
        if self._link is not None:
            await self._link.close(_LINK_S)
        self.mirror.sink = None
        await self.mirror.close()

    async def _watch(self) -> None:
        while not self._is_mirrored():  # noqa: ASYNC110 -- the table tells nobody
            await asyncio.sleep(_LOOK_S)
        await self._begin()

    def _is_mirrored(self) -> bool:
        flags = self._state.table.flags.values()
        return any(STAGE_TABLE[flag.stage].mirror is Mirrored.OTHER for flag in flags)

    async def _begin(self) -> None:
        settings = JudgeSettings(evidence=self._evidence, secret=self._options.secret)
        link = self._link = JudgeLink(settings, self.mirror, asyncio.get_running_loop())
        await link.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPAWN_S):
                while not link.is_ready:  # noqa: ASYNC110 -- it keeps trying; nobody waits longer than this for it
                    await asyncio.sleep(0.02)
        self.mirror.sink = link
        log.info("mirror.started", evidence=_without_password(self._evidence), share=self._options.share)


def _without_password(url: str) -> str:
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url
