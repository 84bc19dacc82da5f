"""What the census costs: per statement in a Django project, and per write by its triggers, with and without.

`python -m tests.benchmarks.census_cost` starts a PostgreSQL of its own, and prints microseconds, the best of five runs:
of processor time, the process's own for statements and the server's for triggers (from Linux's `/proc`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import django
import psycopg

from strangler_proxy.core.census import Counting, Mode
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.census_mode import set_mode
from strangler_proxy.sync.link import close, connect
from tests.integration.census_rig import MANIFEST
from tests.integration.contrib_project.world import World
from tests.integration.contrib_rig import PACKAGE
from tests.servers import EmbeddedPostgres, create_database

RUNS, STATEMENTS, WRITES = 5, 10_000, 5_000
COLUMNS = ", ".join(f'"orders_order"."column_{number}"' for number in range(14))
UNTOUCHED = f'SELECT {COLUMNS} FROM "orders_order" WHERE "orders_order"."user_id" = %s ORDER BY 1 LIMIT 21'
TOUCHED = UNTOUCHED.replace("orders_order", "parcel")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "data", settings={"synchronous_commit": "off"}).start()
        try:
            url = create_database(server, "census_cost")
            world = World(url).make()
            os.environ |= {"CONTRIB_TEST_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": f"{PACKAGE}.census_settings"}
            django.setup()
            _statements(world)
            _writes(world)
        finally:
            server.stop()


def _statements(world: World) -> None:
    from django.db import connection

    from strangler_proxy.contrib.django.census import Watch
    from strangler_proxy.contrib.django.census_mode import OFF
    from strangler_proxy.contrib.django.census_reporter import reporter

    watch = Watch(connection)
    bare = _per_call(lambda number: _nothing(UNTOUCHED, (number,), False, {}))

    def cost(sql: Callable[[int], str]) -> float:
        return _per_call(lambda number: watch.execute(_nothing, sql(number), (number,), False, {})) - bare

    reporter.took(OFF)
    reporter.look_at = time.monotonic() + 600
    print(f"statement, census off                          {cost(lambda _: UNTOUCHED):8.2f} us")
    _set(world, Mode.LOG)
    connection.close()
    reporter.look_at = 0.0
    connection.ensure_connection()
    assert reporter.modes.finder is not None
    reporter.look_at = time.monotonic() + 600
    print(f"statement that touches no counted table        {cost(lambda _: UNTOUCHED):8.2f} us")
    unseen = cost(lambda number: f"{UNTOUCHED} -- {number} {time.time_ns()}")
    print(f"the same, text never seen before               {unseen:8.2f} us")
    print(f"statement that is counted                      {cost(lambda _: TOUCHED):8.2f} us")
    reporter.stop()


def _writes(world: World) -> None:
    """In one transaction on the server, so that neither the network nor the disk is measured."""
    loop = f"DO $$ BEGIN FOR i IN 1..{WRITES} LOOP INSERT INTO parcel (name) VALUES ('x'); END LOOP; END $$"

    def best() -> float:
        with psycopg.connect(world.url, autocommit=True) as connection:
            spent = Path(f"/proc/{connection.info.backend_pid}/schedstat")
            took = []
            for _ in range(RUNS):
                began = int(spent.read_text().split()[0])
                connection.execute(loop.encode())
                took.append((int(spent.read_text().split()[0]) - began) / WRITES / 1e3)
        return min(took)

    _set(world, Mode.LOG)
    plain = best()
    _set(world, Mode.LOG, triggers=True)
    print(f"insert of one row, without commit              {plain:8.2f} us")
    print(f"the census's trigger on top of it              {best() - plain:8.2f} us")


def _set(world: World, mode: Mode, *, triggers: bool = False) -> None:
    async def run() -> None:
        link = await connect(world.url, application="strangler cost")
        try:
            await set_mode(link, MANIFEST, Origin.MONOLITH, Counting(mode=mode, triggers=triggers))
        finally:
            await close(link)

    asyncio.run(run())


def _nothing(sql: str, params: object, many: bool, context: object) -> None:
    """In place of the database."""


def _per_call(call: Callable[[int], object]) -> float:
    return min(_once(call, STATEMENTS) for _ in range(RUNS))


def _once(call: Callable[[int], object], times: int) -> float:
    began = time.thread_time()
    for number in range(times):
        call(number)
    return (time.thread_time() - began) / times * 1e6


if __name__ == "__main__":
    main()
