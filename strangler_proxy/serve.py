"""Composition root of the proxy: settings, table, engine, follower, health; one process or several on one port.

With `STRANGLER_DATABASE_URL` the flag table is followed. With `--upstream` alone everything goes there, and nothing is
read or written anywhere. `python -m strangler_proxy.serve` starts it without the CLI, from the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Final

import structlog
import uvloop

from strangler_proxy import logging
from strangler_proxy.core.errors import DeclarationError, StoreUnavailable, StranglerError
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.follower import Follower
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.forward.table_file import TableFile
from strangler_proxy.health import HealthListener
from strangler_proxy.serve_listeners import inherited
from strangler_proxy.serve_plan import ServePlan
from strangler_proxy.serve_processes import ProcessGroup
from strangler_proxy.serve_shadow import Shadow
from strangler_proxy.serve_tls import watching
from strangler_proxy.settings import ServeSettings, load
from strangler_proxy.store import Store, open_store

log = structlog.get_logger(__name__)

SERVICE: Final = "strangler-proxy"
_FIRST_LOAD_S: Final = 0.7
_AWAIT_TABLE_S: Final = 1.0
_PARENT_LOOK_S: Final = 0.5
_CLOSE_S: Final = 3.0
_SUCCESSOR_S: Final = 35.0


def run(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises DeclarationError for settings, StranglerError where a port is taken."""
    plan = ServePlan.of(settings)
    logging.configure(SERVICE)
    if settings.workers == 1:
        uvloop.run(ProxyProcess(settings, plan).run())
    else:
        asyncio.run(ProcessGroup(settings, plan).run())


class ProxyProcess:
    """One proxy process. `number` is its place among those that share the port, `parent` who started it (0: nobody).

    `listener` is the descriptor of the socket that the parent keeps for it; it writes to `tells` once it accepts.
    """

    def __init__(
        self,
        settings: ServeSettings,
        plan: ServePlan,
        *,
        number: int = 0,
        parent: int = 0,
        listener: int | None = None,
        tells: int | None = None,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._number = number
        self._parent = parent
        self._listener = listener
        self._tells = tells
        self._succeeded = False
        self._succeeding: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._not_ready = "starting"
        self._metrics = ForwardMetrics()
        self._state: ProxyState | None = None
        self._follower: Follower | None = None
        self._engine: Engine | None = None
        self._started = time.monotonic()
        self._health = HealthListener(ready=self._why_not_ready, metrics=self._metrics_text)

    async def run(self) -> None:
        """Start, serve, and leave silently on the first signal; at once on the second."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._on_signal)
        loop.add_signal_handler(signal.SIGUSR1, self._on_successor)
        orphaned = asyncio.create_task(self._watch_parent()) if self._parent else None
        try:
            await self._listen_for_health()
            await self._serve()
        finally:
            for task in (orphaned, self._succeeding):
                if task is not None:
                    task.cancel()
            await self._health.close()

    async def _serve(self) -> None:
        settings, plan = self._settings, self._plan
        store = open_store(settings.database_url, application=SERVICE) if settings.database_url else None
        own_writes = OwnWrites(settings.state_dir / "own-writes.map" if store else None)
        table_file = TableFile(settings.state_dir, plan.signer)
        try:
            table = await self._first_table(store, table_file)
            if table is None:
                return
            state = self._state = ProxyState(
                table,
                options=plan.options,
                signer=plan.signer,
                own_writes=own_writes,
                mirrors_unmatched=plan.has_candidate,
            )
            shadow = None if plan.mirror is None else Shadow(state, plan.mirror, settings.evidence_url)
            engine = self._engine = Engine(state, plan.options, self._metrics, shadow.mirror if shadow else None)
            if store is not None:
                self._follower = self._make_follower(store, state, table_file)
                self._follower.look_for_kills()
            async with _comparing(shadow), _following(self._follower), watching(plan.certificate):
                gc.collect()
                gc.freeze()  # what is here by now stays: looking through it later would stop all requests for 30 ms
                await self._listen(engine)
                log.info("proxy.started", address=plan.address, revision=table.revision, number=self._number)
                self._not_ready = ""
                self._tell()
                await self._stop.wait()
                await self._leave(engine)
            log.info("proxy.stopped")
        finally:
            own_writes.close()
            if store is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(store.close(), _CLOSE_S)

    async def _first_table(self, store: Store | None, table_file: TableFile) -> RoutingTable | None:
        """The table to start with: the database's, else the file's, else everything to the default upstream.

        Without any of them the first table is waited for; None where a signal came first.
        """
        empty = None if self._plan.upstream is None else RoutingTable.empty(self._plan.upstream)
        while store is not None:
            table = await self._loaded(store)
            if table is None:
                found = table_file.load()
                for problem in found.problems:
                    log.error("table.file_unusable", problem=problem)
                table = found.table
                if table is not None:
                    log.warning("table.from_file", revision=table.revision)
            if table is not None or empty is not None:
                return table or empty
            self._not_ready = "no table: the control database is away or empty, and there is no default upstream"
            log.warning("table.awaited")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _AWAIT_TABLE_S)
                return None
        return empty

    async def _loaded(self, store: Store) -> RoutingTable | None:
        try:
            async with asyncio.timeout(_FIRST_LOAD_S):
                table = await store.tables.load()
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("table.source_lost", error=str(error) or "no answer in time", serving=0)
            return None
        except DeclarationError as error:
            log.error("table.refused", problems=error.problems, serving=0)
            return None
        return table if table.default_cluster.endpoints else None

    def _make_follower(self, store: Store, state: ProxyState, table_file: TableFile) -> Follower:
        return Follower(
            store.tables,
            state,
            proxy_id=self._settings.name,
            state_dir=self._settings.state_dir,
            table_file=table_file,
            address=self._plan.address,
        )

    async def _listen(self, engine: Engine) -> None:
        host, port = self._plan.listen
        try:
            certificate = self._plan.certificate
            await engine.listen(
                host,
                port,
                shared=None if self._listener is None else inherited(self._listener),
                tls=None if certificate is None else certificate.context,
            )
        except OSError as error:
            raise cannot_listen("STRANGLER_LISTEN", host, port, error) from error

    async def _listen_for_health(self) -> None:
        if self._plan.admin is None:
            return
        host, port = self._plan.admin
        port = port + self._number if port else 0
        try:
            await self._health.listen(host, port)
        except OSError as error:
            raise cannot_listen("STRANGLER_ADMIN_LISTEN", host, port, error) from error

    async def _leave(self, engine: Engine) -> None:
        """Readiness fails first; then out of the table of proxies; then what is in flight ends."""
        self._not_ready = "draining"
        log.info("proxy.draining", seconds=self._settings.drain_s)
        if not self._succeeded:
            await self._unless_hurried(asyncio.sleep(self._settings.drain_notice_s))
        if self._follower is not None:
            await self._unless_hurried(self._follower.leave())
        await self._unless_hurried(engine.drain(self._settings.drain_s))
        if self._hurry.is_set():
            await engine.drain(0)

    async def _unless_hurried(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for each in (task, hurry):
            each.cancel()
        results = await asyncio.gather(task, hurry, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    def _on_successor(self) -> None:
        if not self._parent:
            log.error("process.not_replaced", number=0, reason="a process alone cannot be: start two or more workers")
        elif self._succeeding is None or self._succeeding.done():
            self._succeeding = asyncio.create_task(self._make_room())

    async def _make_room(self) -> None:
        """A successor starts: the health port is its own. Requests are served as before, until we are told to leave.

        A successor that never served leaves us the port again.
        """
        self._succeeded = True
        await self._health.close()
        await asyncio.sleep(_SUCCESSOR_S)
        if not self._stop.is_set():
            self._succeeded = False
            await self._listen_for_health()

    def _tell(self) -> None:
        if self._tells is not None:
            os.write(self._tells, b"1")
            os.close(self._tells)
            self._tells = None

    def _on_signal(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _watch_parent(self) -> None:
        """Without its parent nobody would end or restart this process: it frees its health port and drains."""
        while os.getppid() == self._parent:  # noqa: ASYNC110 -- nobody else sets an event for it
            await asyncio.sleep(_PARENT_LOOK_S)
        log.warning("proxy.orphaned", parent=self._parent)
        await self._health.close()
        self._stop.set()

    def _why_not_ready(self) -> str:
        return "draining" if self._stop.is_set() else self._not_ready

    def _metrics_text(self) -> str:
        if self._engine is not None:
            self._engine.publish()
        return self._metrics.render() + "\n".join(self._own_metrics()) + "\n"

    def _own_metrics(self) -> Iterator[str]:
        state, follower = self._state, self._follower
        if state is None:
            return
        yield from _metric("strangler_proxy_table_revision", "gauge", "Revision that is served.", state.table.revision)
        yield from _metric(
            "strangler_proxy_kill_switches_count", "gauge", "Kill switches that are on.", len(state.killed)
        )
        if follower is not None:
            age_s = follower.age_s
            yield from _metric(
                "strangler_proxy_table_age_seconds",
                "gauge",
                "Seconds since the control database said which revision is current.",
                time.monotonic() - self._started if age_s is None else age_s,
            )
            yield from _metric(
                "strangler_proxy_tables_refused_total",
                "counter",
                "Tables that did not compile and were not taken.",
                follower.refusals,
            )


def _metric(name: str, kind: str, says: str, value: float) -> tuple[str, str, str]:
    return f"# HELP {name} {says}", f"# TYPE {name} {kind}", f"{name} {value:g}"


def cannot_listen(setting: str, host: str, port: int, error: OSError) -> StranglerError:
    """The error for an address that cannot be bound."""
    return StranglerError(f"{setting}: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}")


@contextlib.asynccontextmanager
async def _following(follower: Follower | None) -> AsyncIterator[None]:
    task = None if follower is None else asyncio.create_task(follower.run())
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def _comparing(shadow: Shadow | None) -> AsyncIterator[None]:
    if shadow is None:
        yield
        return
    await shadow.start()
    try:
        yield
    finally:
        await shadow.close()


def main(arguments: list[str] | None = None) -> int:
    """`python -m strangler_proxy.serve`: everything from the environment. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m strangler_proxy.serve")
    parser.add_argument("--child", type=int, metavar="NUMBER", help="one of several processes; started by the first")
    parser.add_argument("--parent", type=int, default=0, metavar="PID", help="who started it")
    parser.add_argument("--listener", type=int, metavar="FD", help="the listening socket that it inherits")
    parser.add_argument("--tell", type=int, metavar="FD", help="where it says that it accepts connections")
    chosen = parser.parse_args(arguments)
    try:
        settings = load(ServeSettings)
        if chosen.child is None:
            run(settings)
        else:
            plan = ServePlan.of(settings)
            logging.configure(SERVICE)
            child = ProxyProcess(
                settings,
                plan,
                number=chosen.child,
                parent=chosen.parent,
                listener=chosen.listener,
                tells=chosen.tell,
            )
            uvloop.run(child.run())
    except StranglerError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
