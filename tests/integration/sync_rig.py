"""A worker in the test's own event loop on a memory store, and operations asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, Callable
from typing import Any

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.ports import Heartbeat, Operation
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.stage import Origin
from strangler_proxy.settings import WorkerSettings
from strangler_proxy.store import Store
from strangler_proxy.store.memory import memory_store
from strangler_proxy.worker import Worker
from tests.integration.sync_world import World, until


def capability(world: World) -> Capability:
    """The flag of the world, with one route."""
    clusters = {Origin.MONOLITH: "old", Origin.EXTRACTED: "new"}
    return Capability(
        key=world.manifest.flag,
        file_name="people.toml",
        file_text="",
        routes=(Route(name="people", flag=world.manifest.flag, path="/people/**", clusters=clusters),),
        clusters=tuple(
            Cluster(name=name, endpoints=(Endpoint(host="127.0.0.1", port=port),))
            for name, port in (("old", 1), ("new", 2))
        ),
        manifest=world.manifest,
    )


async def declared(store: Store, world: World) -> Store:
    """The capability applied."""
    await store.switches.apply([capability(world)], default_cluster="old", by="test", reason="", expected_revision=None)
    return store


def worker_for(store: Store, world: World, name: str = "w1", *, deadline_s: float = 3.0) -> Worker:
    """A worker on both databases, as the worker's role."""
    names = {world.manifest.databases[origin]: url for origin, url in world.sync_urls().items()}
    settings = WorkerSettings(database_url="none", worker_id=name, cutover_deadline_s=deadline_s)
    return Worker(store, names, settings)


@contextlib.asynccontextmanager
async def running(*workers: Worker) -> AsyncGenerator[None]:
    """Run workers; they must end cleanly."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.stop.set()
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def rig(world: World, *, deadline_s: float = 3.0) -> AsyncGenerator[Store]:
    """A memory store with the capability, and one worker."""
    store = await declared(memory_store(), world)
    async with running(worker_for(store, world, deadline_s=deadline_s)):
        yield store
    await store.close()


async def ask(store: Store, kind: str, flag: str, *, seconds: float = 20.0, **args: str) -> Operation:
    """Request an operation and wait for its end."""
    asked = await store.switches.request(kind, flag, args, by="test", reason="test")

    async def ended() -> Operation | None:
        found = next(o for o in await store.records.operations(flag, 10) if o.id == asked.id)
        return found if found.status not in ("queued", "running") else None

    found: Operation = await until(ended, seconds)
    return found


async def status(store: Store, flag: str) -> dict[str, Any]:
    """The last published status."""
    found = await store.sync.status(flag)
    return {} if found is None else dict(found[0])


async def ready(store: Store, flag: str, *, seconds: float = 20.0) -> dict[str, Any]:
    """Wait until the stream is live, verified and close behind."""

    async def is_ready() -> dict[str, Any] | None:
        said = await status(store, flag)
        good = said.get("mode") == "live" and said.get("verified") and (said["lag_seconds"] or 9) < 0.8
        return said if good else None

    found: dict[str, Any] = await until(is_ready, seconds)
    return found


async def in_step(world: World, *, seconds: float = 60.0) -> None:
    """Wait until both sides hold the same rows; looked at from a thread, as the worker has this loop."""
    await until(lambda: asyncio.to_thread(world.same), seconds)


async def start(store: Store, world: World) -> dict[str, Any]:
    """`sync_start`, then ready."""
    done = await ask(store, "sync_start", world.manifest.flag)
    assert done.status == "done", done.detail
    return await ready(store, world.manifest.flag)


async def cut_over(store: Store, world: World, to: Origin, *, seconds: float = 20.0) -> Operation:
    """A cutover to an origin, to its end."""
    stage = "extracted" if to is Origin.EXTRACTED else "canary"
    await ready(store, world.manifest.flag, seconds=seconds)
    return await ask(store, "cutover", world.manifest.flag, seconds=seconds, to=to.value, stage=stage, weight="0")


@contextlib.asynccontextmanager
async def proxy(
    store: Store,
    flag: str,
    *,
    acknowledges: Callable[[], bool] = lambda: True,
    in_flight: Callable[[], int] = lambda: 0,
) -> AsyncGenerator[None]:
    """A proxy as the control database sees one: it serves each revision a little after it was made."""
    stop = asyncio.Event()

    async def beat() -> None:
        revision = await store.tables.revision()
        while not stop.is_set():
            if acknowledges():
                revision = await store.tables.revision()
            await store.tables.beat(
                Heartbeat(
                    proxy_id="p1",
                    revision=revision,
                    unsafe_in_flight={flag: in_flight()},
                    started_at=dt.datetime.now(dt.UTC),
                )
            )
            await asyncio.sleep(0.02)

    task = asyncio.create_task(beat())
    try:
        await until(store.flags.live_proxies)
        yield
    finally:
        stop.set()
        await task
        await store.tables.leave("p1")
