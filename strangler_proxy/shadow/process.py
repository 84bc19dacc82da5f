"""The judging process: what its proxy sends is judged in order; evidence is published beside it.

One thread does everything, so that a comparison that takes too long can be broken off by an alarm; in between, the
loop publishes, asks and answers. While much waits to be judged it reads no more, and the proxy drops what it cannot
send, and counts it. It ends when it is told to, or when its proxy is gone, and publishes first.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from strangler_proxy.core.errors import StoreUnavailable, UnknownName
from strangler_proxy.core.evidence import EvidenceBook
from strangler_proxy.core.rules import Rule
from strangler_proxy.shadow import codings, frames
from strangler_proxy.shadow.alarm import Limited
from strangler_proxy.shadow.frames import asked_of, frame, read_answer, read_pair
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.notebook import COMPARER_FULL
from strangler_proxy.shadow.options import read_settings
from strangler_proxy.shadow.priority import come_forward, step_back
from strangler_proxy.shadow.publishing import Publisher, TooLate
from strangler_proxy.shadow.wire import Wire

UNJUDGED_BYTES: Final = 8 * 1024 * 1024
"""Frames that were read and not yet judged; beyond, the proxy waits."""
SLICE_S: Final = 0.02
GATHER_S: Final = 0.05
"""How long what comes is left to gather once all is judged: together it costs a fifth less than one by one."""
DUE_EVERY_S: Final = 0.02
DUE_IDLE_S: Final = 0.1
"""From look to look at what is to be asked: while something waits, and while nothing does."""
SPREAD: Final = 100
"""Of so many that wait one is asked at a time, more only where that many more wait."""
RULES_S: Final = 5.0
ORPHAN_S: Final = 5.0
"""How long it may take to ask, settle and publish at the end; pairs that come later are dropped, and counted."""
LAST_PAUSE_S: Final = 0.3

_TOO_LATE: Final = 75
"""Exit status; the proxy starts another judge."""

OpenBook = Callable[[str], AbstractAsyncContextManager[EvidenceBook]]


class JudgingProcess:
    """One judge at one end of a socket pair."""

    def __init__(self, sock: socket.socket, open_book: OpenBook) -> None:
        self._sock = sock
        self._open_book = open_book
        self._frames: deque[tuple[tuple[Any, ...], int]] = deque()
        self._unjudged = 0
        self._paused = False
        self._news = asyncio.Event()
        self._window = 0
        self._told = -1
        self._exact = False
        self._rules_failed = 0
        self._deadline = float("inf")
        self._last_s = ORPHAN_S
        self._ending = asyncio.Event()
        self._wire = Wire(self._heard)

    async def run(self) -> None:
        """Judge until the end."""
        loop = asyncio.get_running_loop()
        self._wire.closed.add_done_callback(lambda _: self._end())
        await loop.create_unix_connection(lambda: self._wire, sock=self._sock)
        hello = await self._next()
        if hello is None or hello[0] != frames.HELLO:
            return
        self._settings = settings = read_settings(hello[1])
        self._judge = Judge(settings, hello[2], undo=codings.known(), limited=Limited(settings.compare_s))
        async with self._open_book(settings.evidence) as book:
            self._book = book
            self._publisher = Publisher(self._judge, book, settings)
            self._wire.send(frame(frames.READY))
            step_back()
            self._cpu_s, self._wall_s = time.thread_time(), time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(each()) for each in (self._publish, self._ask_due, self._read_rules)]
                await self._work()
                for task in beside:
                    task.cancel()
            await self._finish()

    # What comes in.

    def _heard(self, message: tuple[Any, ...], size: int) -> None:
        if message[0] == frames.END:
            self._deadline = time.monotonic() + message[1]
            self._last_s = min(ORPHAN_S, 0.6 * message[1])
        self._frames.append((message, size))
        self._unjudged += size
        if self._unjudged > UNJUDGED_BYTES and not self._paused:
            self._paused = True
            self._wire.pause_reading()
        self._news.set()

    async def _next(self) -> tuple[Any, ...] | None:
        """The next message; None when there will be none."""
        while not self._frames:
            if self._ending.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        message, size = self._frames.popleft()
        self._unjudged -= size
        if self._paused and self._unjudged < UNJUDGED_BYTES // 2:
            self._paused = False
            self._wire.resume_reading()
        return message

    def _end(self) -> None:
        self._ending.set()
        self._news.set()

    async def _work(self) -> None:
        """Judge what comes; let others have the loop in between."""
        until = time.monotonic() + SLICE_S
        while (message := await self._next()) is not None:
            try:
                await self._take(message)
            except Exception:  # noqa: BLE001 -- one message is lost, and counted; the judge goes on
                self._judge.facts["failed"] += 1
            if time.monotonic() > until:
                await asyncio.sleep(self._rest_s())
                until = time.monotonic() + SLICE_S
            if not self._frames:
                await self._gather()
                until = time.monotonic() + SLICE_S

    async def _gather(self) -> None:
        """Read nothing for a moment; not at the end."""
        if self._deadline == float("inf") and not self._ending.is_set():
            self._wire.pause_reading()
            await asyncio.sleep(GATHER_S)
            self._wire.resume_reading()

    def _rest_s(self) -> float:
        """How long to rest after a slice, so that no more than a share of one processor is used; 0 at the end."""
        cpu_s, wall_s = time.thread_time(), time.monotonic()
        used_s, passed_s = cpu_s - self._cpu_s, wall_s - self._wall_s
        rest_s = max(0.0, used_s / self._settings.duty - passed_s)
        self._cpu_s, self._wall_s = cpu_s, wall_s + rest_s
        return rest_s if self._deadline == float("inf") else 0.0

    async def _take(self, message: tuple[Any, ...]) -> None:
        match message[0]:
            case frames.PAIR:
                pair = read_pair(message[2])
                await self._know(pair.flag)
                if time.monotonic() > self._deadline - self._last_s:
                    self._judge.drop(pair, COMPARER_FULL)
                else:
                    self._judge.pair(pair, message[1], time.monotonic())
            case frames.NOTES:
                _, number, at, rows, counts = message
                try:
                    for flag in {row[0][0] for row in rows} | {count[0][0] for count in counts}:
                        await self._know(flag)
                    self._judge.notes(at, rows, counts)
                finally:
                    self._window = number
            case frames.ASKED:
                self._asked(message)
            case frames.END:
                self._end()

    def _asked(self, message: tuple[Any, ...]) -> None:
        _, token, control, candidate = message
        self._judge.asked(
            token,
            None if control is None else read_answer(control),
            None if candidate is None else read_answer(candidate),
        )

    # Rules.

    async def _know(self, flag: str) -> None:
        """Read the rules of a flag before the first of its pairs is judged."""
        if not self._judge.knows(flag):
            self._judge.take_rules(flag, await self._rules(flag) or (), _today())
            self._tell_exact()

    async def _read_rules(self) -> None:
        while True:
            await asyncio.sleep(self._settings.rules_every_s)
            for flag in list(self._judge.flags):
                rules = await self._rules(flag)
                self._judge.take_rules(flag, self._judge.flags[flag].rules if rules is None else rules, _today())
            self._tell_exact()

    async def _rules(self, flag: str) -> tuple[Rule, ...] | None:
        """The rules of a flag; None where they cannot be read now, and count as they were."""
        read = getattr(self._book, "rules", None)
        if read is None:
            return ()
        try:
            async with asyncio.timeout(RULES_S):
                return tuple(await read(flag))
        except UnknownName:
            return ()
        except (StoreUnavailable, TimeoutError, OSError):
            self._rules_failed += 1
        except Exception:  # noqa: BLE001 -- whatever a store does, judging goes on with the rules it has
            self._rules_failed += 1
        return None

    def _tell_exact(self) -> None:
        exact = self._judge.is_exact
        if exact != self._exact:
            self._exact = exact
            self._wire.send(frame(frames.EXACT, exact))

    # Asking and publishing.

    async def _ask_due(self) -> None:
        """Ask what is due, a little at a time: a caller's request may have to wait behind whatever is sent at once."""
        while True:
            await asyncio.sleep(DUE_EVERY_S if self._judge.waiting else DUE_IDLE_S)
            self._send_asks(time.monotonic(), 1 + self._judge.waiting // SPREAD)

    def _send_asks(self, now: float, most: int | None = None) -> None:
        for token, sides, pair in self._judge.due(now, most):
            self._wire.send(frame(frames.ASK, token, tuple(side.value for side in sides), asked_of(pair)))

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(self._publisher.pause_s)
            await self._publish_once()

    async def _publish_once(self) -> bool:
        now, window = time.time(), self._window
        self._judge.place_overdue(now)
        try:
            done = await self._publisher.publish(now)
        except TooLate as error:
            raise SystemExit(_TOO_LATE) from error
        if done and window != self._told and not self._judge.has_unplaced:
            self._told = window
            self._wire.send(frame(frames.KEPT, window))
        self._wire.send(frame(frames.FACTS, self._facts()))
        return done

    def _facts(self) -> dict[str, int]:
        own = {
            "waiting": self._judge.waiting,
            "rules_failed": self._rules_failed,
            "unjudged_bytes": self._unjudged,
            "publish_failures": self._publisher.failures,
        }
        return {**self._judge.facts, **self._publisher.facts, **own}

    async def _finish(self) -> None:
        """Ask what waits without delay, for half of the time that is left at most; settle, publish, say so."""
        come_forward(os.getpid())
        until = min(self._deadline, time.monotonic() + self._last_s)
        self._judge.place_overdue(time.time(), all_of_them=True)
        if not self._wire.closed.done():
            self._send_asks(float("inf"))
            self._wire.flush()
            asking_until = until - self._last_s / 2
            while self._judge.waiting and time.monotonic() < asking_until and not self._wire.closed.done():
                self._news.clear()
                try:
                    async with asyncio.timeout(0.2):
                        await self._news.wait()
                except TimeoutError:
                    pass  # looked at again
                while self._frames:
                    message, _ = self._frames.popleft()
                    if message[0] == frames.ASKED:
                        self._asked(message)
                self._send_asks(float("inf"))
        self._judge.settle_all()
        while not await self._publish_once():
            if time.monotonic() > until:
                break
            await asyncio.sleep(LAST_PAUSE_S)
        self._wire.send(frame(frames.ENDED))
        self._wire.flush()
        await asyncio.sleep(0)
        self._wire.close()


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def judge_at(descriptor: int, open_book: OpenBook) -> None:
    """Be the judge at this end of a socket pair, until the end. Signals meant for the proxy are left to it."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    try:
        asyncio.run(_run(sock, open_book))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # an alarm while the interpreter ends would end it otherwise


async def _run(sock: socket.socket, open_book: OpenBook) -> None:
    await JudgingProcess(sock, open_book).run()
