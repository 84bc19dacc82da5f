"""django-oscar's orders and payments, moved by manifest alone: a schema that nobody tuned for.

docs/how-to/move-your-own-schema.md, typed as it stands: proposed, applied, made at a second server, copied, verified,
cut over, reversed and cut over again by the real command line, control plane and worker, while a shop writes through
its models. The checks share no code with the toolkit.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.capability_file import parse_capability
from tests.foreign import oscar_site as oscar
from tests.integration.control_rig import Proxy, Rig, control_rig
from tests.servers import EmbeddedPostgres, create_database, drop_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

M, E = Origin.MONOLITH, Origin.EXTRACTED
PAGE = oscar.ROOT / "docs" / "how-to" / "move-your-own-schema.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
ORDERS = int(os.environ.get("ORDERS", "20000"))
WRITTEN_EACH_TIME = 150

DEFAULT = """
[default]
cluster = "monolith"

[clusters.monolith]
endpoints = ["127.0.0.1:1"]
"""
HEAD = """
[capability]
monolith = "monolith"
extracted = "shop"

[clusters.shop]
endpoints = ["127.0.0.1:2"]

[routes.shop]
path = "/shop/**"

"""


@dataclass(kw_only=True)
class Move:
    """Both databases as superuser, the control plane, and what the shop wrote."""

    urls: dict[Origin, str]
    rig: Rig
    history: Path

    def type(self, commands: str, seconds: float = 180) -> str:
        """A block of the page, as a reader would type it; all of its output."""
        path = f"{Path(sys.executable).parent}:{oscar.binaries()}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"set -eu\n{commands}"], cwd=self.rig.folder, env=self.rig.environment | {"PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}"
        return done.stdout

    def flip(self, commands: str) -> str:
        """Move the writer. On a loaded machine a cutover may run into its deadline; it is tried again then."""
        for _ in range(5):
            with contextlib.suppress(AssertionError):
                return self.type(commands)
            time.sleep(2)
        return self.type(commands)

    def query(self, origin: Origin, text: str) -> list[tuple[object, ...]]:
        """Rows, as superuser."""
        with psycopg.connect(self.urls[origin], autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()


@pytest.fixture(scope="module")
def move(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Move]:
    """A shop of 20,000 orders at one server, an empty database at another, and what moves rows between them."""
    oscar.python()
    folder = tmp_path_factory.mktemp("oscar")
    settings = {"fsync": "off", "full_page_writes": "off"}
    second = EmbeddedPostgres(folder / "second", settings=settings).start()
    control = create_database(postgres, "oscar_control")
    urls = {M: oscar.create(postgres, "oscar_m", oscar.SHOP), E: oscar.create(second, "oscar_e", oscar.SERVICE)}
    try:
        oscar.migrate(urls[M])
        oscar.shop(["-m", "tests.foreign.oscar.shop", "fill", str(ORDERS)], oscar.environment(urls[M]))
        with control_rig(control, folder) as rig:
            rig.environment |= {
                "STRANGLER_PLANS_DIR": str(folder / "plans"),
                "STRANGLER_DATA_URL__MONOLITH": oscar.as_role(urls[M], oscar.SYNC),
                "STRANGLER_DATA_URL__SHOP": oscar.as_role(urls[E], oscar.SYNC),
                "STRANGLER_CUTOVER_DEADLINE_S": "20",  # 22 tables on a loaded machine
                "SERVICE_URL": oscar.as_role(urls[E], oscar.SERVICE),
                "PROJECT_SETTINGS": oscar.SETTINGS,
                "PROJECT_PYTHON": oscar.python(),
            }
            (folder / "plans").mkdir()
            yield Move(urls=urls, rig=rig, history=folder / "history.jsonl")
    finally:
        second.stop()
        for url in (urls[M], control):
            drop_database(postgres, url)


@contextlib.contextmanager
def working(move: Move) -> Iterator[None]:
    """A worker, a proxy's heartbeat, and the shop at work."""
    move.history.touch()
    log = (move.history.parent / "worker.log").open("ab")
    worker = subprocess.Popen(
        [sys.executable, "-m", "strangler_proxy.cli.main", "worker"],
        env=move.rig.environment, cwd=move.rig.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    apps = oscar.environment(oscar.as_role(move.urls[M], oscar.SHOP), oscar.as_role(move.urls[E], oscar.SERVICE))
    command = [oscar.python(), "-m", "tests.foreign.oscar.shop", "write", str(move.history), "1", "0.005"]
    errors = (move.history.parent / "shop.log").open("w+")
    shop = subprocess.Popen(command, env=apps, cwd=oscar.ROOT, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        with Proxy(move.rig.database_url, "p1"):
            yield
            assert shop.poll() is None, Path(errors.name).read_text()[-2000:]
            shop.send_signal(signal.SIGTERM)
            assert shop.wait(30) == 0, Path(errors.name).read_text()[-2000:]
            until(lambda: fingerprints(move, M) == fingerprints(move, E), "both sides are equal")
    finally:
        for process in (shop, worker):
            process.terminate()
            process.wait(30)
        log.close()
        errors.close()


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def written(move: Move, side: str) -> int:
    """How often the shop has written to a side."""
    return sum(line["side"] == side and line["outcome"] == "done" for line in oscar.history(move.history))


def write_at(move: Move, side: str) -> None:
    """Wait until the shop has written to a side for a while."""
    wanted = written(move, side) + WRITTEN_EACH_TIME
    until(lambda: written(move, side) >= wanted, f"the shop writes to {side}")


def columns(move: Move) -> dict[str, list[str]]:
    """Tables of orders and payments and their columns, as the monolith's catalog has them."""
    found: dict[str, list[str]] = {}
    rows = move.query(
        M,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND (table_name LIKE 'order\\_%' OR table_name LIKE 'payment\\_%') ORDER BY 1, 2",
    )
    for table, column in rows:
        found.setdefault(str(table), []).append(str(column))
    return found


def fingerprints(move: Move, origin: Origin) -> dict[str, tuple[object, ...]]:
    """Rows of each table, and a digest of all of them."""
    with psycopg.connect(move.urls[origin], autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        digest = "SELECT count(*), md5(string_agg(r, chr(10) ORDER BY r)) FROM (SELECT ROW({})::text r FROM {}) x"
        return {
            table: connection.execute(
                sql.SQL(digest).format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table))
            ).fetchone() or ()
            for table, names in columns(move).items()
        }  # fmt: skip


def test_orders_and_payments_move_by_manifest_alone(move: Move) -> None:
    commands = iter(BLOCK.findall(PAGE.read_text()))
    folder = Path(move.rig.environment["STRANGLER_PLANS_DIR"])
    (folder / "_default.toml").write_text(DEFAULT)
    (folder / "shop.toml").write_text(HEAD)
    move.type(next(commands))
    manifest = parse_capability((folder / "shop.toml").read_text(), "shop.toml", {}).manifest
    assert manifest is not None
    assert {table.monolith: sorted(c.monolith for c in table.columns) for table in manifest.tables} == columns(move)
    move.type(next(commands))

    took: dict[str, float] = {}
    with working(move):
        write_at(move, "default")
        for what in ("copied and verified", "foreign keys added, verified again"):
            began = time.monotonic()
            move.type(next(commands))
            took[what] = round(time.monotonic() - began, 1)
        for side in ("service", "default", "service"):
            told = move.flip(next(commands))
            write_at(move, side)
            print(*(line for line in told.splitlines() if "held" in line or "release" in line), sep="\n")
    assert next(commands, None) is None
    check(move)
    rows = sum(int(str(count)) for count, _ in fingerprints(move, E).values())
    print(f"{rows} rows of {len(manifest.tables)} tables; {longest_pauses(move)}; {took}")


def longest_pauses(move: Move) -> str:
    """Seconds between two writes of the shop where it changed sides, and at most elsewhere."""
    done = [line for line in oscar.history(move.history) if line["outcome"] == "done"]
    turns, others = [], [0.0]
    for before, after in itertools.pairwise(done):
        seconds = float(after["at"]) - float(before["at"])
        (turns if before["side"] != after["side"] else others).append(seconds)
    words = " ".join(f"{seconds:.2f}" for seconds in turns)
    return f"{len(done)} writes, a change of sides took {words} s, other writes at most {max(others):.2f} s"


def check(move: Move) -> None:
    """What was acknowledged is there once, what was refused is not, money is the same to the cent, all of it."""
    lines = oscar.history(move.history)
    done = [line for line in lines if line["outcome"] == "done"]
    refused = [line["reference"] for line in lines if line["outcome"] == "fenced"]
    assert Counter(line["side"] for line in done).keys() == {"default", "service"}
    assert refused, "no write met the fence, so nothing of it was seen"

    orders = {line["number"]: line for line in done if line["kind"] == "place"}
    cancelled = {line["number"] for line in done if line["kind"] == "cancel"}
    kinds = {"place": "Authorise", "debit": "Debit", "refund": "Refund"}
    wanted = {
        line["reference"]: (kinds[line["kind"]], Decimal(line["amount"]))
        for line in done
        if line["kind"] in kinds and line["number"] not in cancelled
    }
    for origin in (E, M):
        there = move.query(origin, "SELECT number, total_incl_tax FROM order_order WHERE number LIKE 'W%'")
        assert dict(there) == {
            number: Decimal(line["amount"]) for number, line in orders.items() if number not in cancelled
        }
        payments = move.query(
            origin,
            "SELECT t.reference, t.txn_type, t.amount FROM payment_transaction t JOIN payment_source s "
            "ON s.id = t.source_id JOIN order_order o ON o.id = s.order_id WHERE o.number LIKE 'W%'",
        )
        assert len(payments) == len(wanted)
        found = {reference: (kind, amount) for reference, kind, amount in payments}
        settled = {reference for reference, *_ in payments}
        assert found == wanted
        assert settled.isdisjoint(set(refused) - set(wanted))
        totals = move.query(
            origin,
            "SELECT count(*) FROM payment_source s JOIN (SELECT source_id, "
            "sum(amount) FILTER (WHERE txn_type = 'Authorise') a, "
            "coalesce(sum(amount) FILTER (WHERE txn_type = 'Debit'), 0) d, "
            "coalesce(sum(amount) FILTER (WHERE txn_type = 'Refund'), 0) r FROM payment_transaction GROUP BY 1) t "
            "ON t.source_id = s.id WHERE (s.amount_allocated, s.amount_debited, s.amount_refunded) <> (t.a, t.d, t.r)",
        )
        assert totals == [(0,)]
    assert fingerprints(move, M) == fingerprints(move, E)
    inside = "conrelid::regclass::text ~ '^(order|payment)_' AND confrelid::regclass::text ~ '^(order|payment)_'"
    keys = f"SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND {inside}"
    assert move.query(E, keys) == move.query(M, keys)
