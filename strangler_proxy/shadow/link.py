"""The link of a proxy process to its judge: a process of its own, so that comparing never costs the proxy's thread.

Nothing here blocks or raises on the loop of the proxy. What waits for the judge is bounded in bytes and pairs; a judge
that dies is started again with growing pauses, and what it had not kept is counted.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import uuid
from collections.abc import Mapping
from time import time
from typing import Any, Final

import structlog

from strangler_proxy.core.pair import Asker, Pair, Seen
from strangler_proxy.core.strata import SESSION_COOKIES, is_signed_in
from strangler_proxy.shadow import frames
from strangler_proxy.shadow.asking import Questions
from strangler_proxy.shadow.chance import Chance
from strangler_proxy.shadow.frames import frame, pair_frame
from strangler_proxy.shadow.notebook import COMPARER_FULL, JUDGE_DOWN, Notebook
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.shadow.priority import come_forward
from strangler_proxy.shadow.wire import Wire

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
END_S: Final = 1.0
STEADY_S: Final = 30.0
"""A judge that lived this long is started again at once."""
_SIGNED_IN: Final = frozenset({b"authorization", b"cookie"})


class JudgeLink:
    """Implements `core.pair.PairSink`. `await start()` first; what is noted before the judge runs is not lost.

    `drops` counts by reason what this end dropped, `facts` are the judge's own counts (since it was started last),
    `restarts` how often it died.
    """

    def __init__(self, settings: JudgeSettings, asker: Asker, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.drops: dict[str, int] = {}
        self.restarts = 0
        self.pid = 0
        self._asker = asker
        self._loop = loop
        self._notebook = Notebook()
        self._wire: Wire | None = None
        self._facts: dict[str, int] = {}
        self._writer = settings.writer or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._lives = 0
        self._keeper: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._exact = self._ready = self._chosen = False
        self._cookies = SESSION_COOKIES | settings.session_cookies
        self._draw = random.Random().random
        self._chance = Chance(settings.aa_share, settings.aa_per_s * TICK_S, self._draw)

    def __repr__(self) -> str:
        return f"<JudgeLink pid={self.pid} restarts={self.restarts} {self._wire} {self._notebook}>"

    @property
    def facts(self) -> Mapping[str, int]:
        """What the judge has counted: `compared`, `waiting`, `asked`, `cut_off` and more."""
        return self._facts

    @property
    def is_up(self) -> bool:
        """Is there a judge that takes pairs?"""
        return self._wire is not None

    @property
    def is_ready(self) -> bool:
        """Has the judge opened its evidence? Until then what it is sent only waits."""
        return self._ready

    # On the proxy's hot path.

    @property
    def exact(self) -> bool:
        """May the next equal pair be counted unseen? Read once a pair: by chance it is False, for the A/A sample."""
        chance = self._chance
        chance.until -= 1
        self._chosen = chosen = not chance.until and chance.strike()
        return self._exact and not chosen

    def note(self, seen: Seen) -> None:
        """Count one eligible request that needs no comparison."""
        self._notebook.note(seen)

    def take(self, pair: Pair) -> None:
        """Have a pair compared; dropped, and counted, where too many wait or no judge is there."""
        chosen, self._chosen = self._chosen, False
        wire = self._wire
        if wire is None:
            self._drop(pair, JUDGE_DOWN)
            return
        if wire.bytes >= self.settings.waiting_bytes or wire.pairs >= self.settings.waiting_pairs:
            self._drop(pair, COMPARER_FULL)
            return
        try:
            data = pair_frame(pair, chosen)
        except ValueError:  # what is no plain value
            self._drop(pair, COMPARER_FULL)
            return
        self._notebook.sent(pair.flag)
        wire.send(data, pairs=1)

    def _drop(self, pair: Pair, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1
        signs = [
            (name.lower().decode("latin-1"), value.decode("latin-1"))
            for name, value in pair.fields
            if name.lower() in _SIGNED_IN
        ]
        kind = next((value for name, value in pair.control.fields if name.lower() == b"content-type"), b"")
        self._notebook.note(
            Seen(
                pair.flag,
                pair.route,
                pair.method,
                pair.target.partition(b"?")[0],
                is_signed_in(signs, self._cookies),
                pair.control.status,
                kind,
                reason,
            )
        )

    # The judge's life.

    async def start(self) -> None:
        """Start the judge and keep one running until `close`. Returns at once."""
        if self._keeper is None:
            self._keeper = self._loop.create_task(self._keep())
            self._tick()

    async def close(self, timeout_s: float = 10.0) -> None:
        """Let the judge finish what it has and publish, for `timeout_s` at most; then it is gone.

        It may ask once more meanwhile, so that the mirror is closed after it.
        """
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is None:
            return
        until = self._loop.time() + timeout_s
        if self._wire is not None:
            self._turn(self._wire)
            come_forward(self.pid)
            self._wire.send(frame(frames.END, max(0.5, 0.8 * timeout_s)))
        done, _ = await asyncio.wait({self._keeper}, timeout=max(0.1, until - self._loop.time()))
        if not done:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        self._keeper = None

    def _tick(self) -> None:
        if self._closing:
            return
        self._chance.turn()
        if self._wire is not None:
            self._turn(self._wire)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _turn(self, wire: Wire) -> None:
        """Send what the open window holds; later, where too much waits already."""
        if not self._notebook.open.is_empty and wire.bytes < self.settings.waiting_bytes:
            number, rows, counts = self._notebook.turn()
            wire.send(frame(frames.NOTES, number, time(), rows, counts))

    async def _keep(self) -> None:
        pause = 0.0
        while not self._closing:
            if pause:
                await asyncio.sleep(pause)
            born = self._loop.time()
            status = await self._live()
            if self._closing:
                return
            self.restarts += 1
            pause = (
                0.0
                if self._loop.time() - born > STEADY_S
                else min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause)) * (0.75 + self._draw() / 2)
            )
            log.warning("shadow.judge_died", pid=self.pid, status=status, restart_in_s=round(pause, 1))

    async def _live(self) -> int:
        """One judge, from its start to its end; returns its exit status."""
        ours, theirs = socket.socketpair()
        self._lives += 1
        wire = Wire(self._heard, high_bytes=256 * 1024)
        questions = Questions(
            self._asker, wire.send, at_once=self.settings.asks_at_once, waiting=self.settings.asks_waiting
        )
        self._questions = questions
        process = None
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "strangler_proxy.shadow",
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
            self.pid = process.pid
            await self._loop.create_unix_connection(lambda: wire, sock=ours)
            wire.send(frame(frames.HELLO, self.settings.document(), f"{self._writer}.{self._lives}"))
            self._wire = wire
            log.info("shadow.judge_started", pid=process.pid)
            await wire.closed
        except OSError as error:
            log.warning("shadow.judge_not_started", error=str(error))
        finally:
            self._wire = None
            self._exact = self._ready = False
            if wire.is_connected:
                wire.close()
            else:
                ours.close()
            lost = self._notebook.lost()
            if lost:
                self.drops[JUDGE_DOWN] = self.drops.get(JUDGE_DOWN, 0) + lost
            await self._end(process, questions)
        return -1 if process is None else process.returncode or 0

    async def _end(self, process: asyncio.subprocess.Process | None, questions: Questions) -> None:
        try:
            await questions.close()
            if process is not None:
                async with asyncio.timeout(END_S):
                    await process.wait()
        except TimeoutError:
            pass  # it is killed
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()

    def _heard(self, message: tuple[Any, ...], _: int) -> None:
        match message:
            case (frames.ASK, token, sides, values):
                self._questions.put(token, sides, values)
            case (frames.KEPT, number):
                self._notebook.kept(number)
            case (frames.READY,):
                self._ready = True
            case (frames.EXACT, exact):
                self._exact = exact
            case (frames.FACTS, facts):
                self._note_evidence(self._facts.get("publish_failures", 0), facts.get("publish_failures", 0), facts)
                self._facts = facts

    @staticmethod
    def _note_evidence(before: int, now: int, facts: Mapping[str, int]) -> None:
        if now and not before:
            refused = [name.removeprefix("refused_") for name in facts if name.startswith("refused_")]
            log.warning("shadow.evidence_unavailable", refused=", ".join(refused))
        elif before and not now:
            log.info("shadow.evidence_available")
