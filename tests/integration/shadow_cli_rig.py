"""A control plane with flags that declare rules and ask for evidence, and evidence given to it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strangler_proxy.core.rules import digest
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import Tally
from strangler_proxy.store import Store
from tests.integration.control_rig import Rig, control_rig
from tests.ports.evidence_samples import NEW, sample, stratum, tally
from tests.servers import EmbeddedPostgres, create_database, drop_database

DEFAULT = """
[default]
cluster = "monolith"
[clusters.monolith]
endpoints = ["127.0.0.1:9"]
"""

PLAN = """
[capability]
monolith = "monolith"
extracted = "monolith"
[routes.{key}]
path = "/{key}/**"
"""

DECLARED = """
[[compare]]
id = "clock"
rule = "tolerance"
path = "at"
skew_s = 2
owner = "catalog-team"
reason = "clocks"
expires_on = 2099-01-01

[[compare]]
id = "old"
rule = "ignore"
path = "nonce"
owner = "catalog-team"
reason = "random"
expires_on = 2020-01-01
"""

REQUIRED = """
[evidence]
required = true
pairs = 100
limit = 0.05
hours = 0.1
fresh_hours = 1
"""

FLAGS = {"catalog": DECLARED, "ledger": REQUIRED, "empty": "", "other": ""}


@contextmanager
def shadow_rig(postgres: EmbeddedPostgres, folder: Path) -> Iterator[Rig]:
    """One control plane, with flags whose files declare rules and ask for evidence."""
    url = create_database(postgres, "shadow")
    plans = folder / "plans"
    plans.mkdir()
    (plans / "_default.toml").write_text(DEFAULT)
    for name, more in FLAGS.items():
        (plans / f"{name}.toml").write_text(PLAN.format(key=name) + more)
    with control_rig(url, folder) as made:
        done = made.run("apply", str(plans))
        assert done.code == 0, done.err
        assert '+ compare rule "catalog" "clock" at' in done.out
        yield made
    drop_database(postgres, url)


@contextmanager
def catalog_evidence(rig: Rig) -> Iterator[None]:
    """Fresh evidence of `catalog`: one stratum matches, one has a confirmed difference with three samples."""
    basis = dataclasses.replace(NEW, rules=digest_of(rig, "catalog"))
    give(rig, "catalog", said(basis=basis), [sample(n) for n in (1, 2, 3)])
    yield
    forget(rig)


def digest_of(rig: Rig, flag: str) -> str:
    """The digest of the rules that count today, as a judge names it in its basis."""

    async def work(store: Store) -> str:
        today = dt.datetime.now(dt.UTC).date()
        return digest(each for each in await store.evidence.rules(flag) if today < each.expires_on)

    return str(rig.with_store(work))


def said(**changes: Any) -> Tally:
    found = tally(list=stratum(9_000), one=stratum(90, 10, sample=sample(2).id))
    now = time.time()
    for one in found.strata.values():
        one.first_at, one.last_at = now - 7_200, now - 60
    found.eligible, found.mirrored = 10_000, 9_500
    return dataclasses.replace(found, **changes)


def give(rig: Rig, flag: str, found: Tally, samples: Sequence[Sample] = ()) -> None:
    async def work(store: Store) -> None:
        await store.evidence.publish("w1", dataclasses.replace(found, flag=flag))
        await store.evidence.keep([dataclasses.replace(each, flag=flag) for each in samples])

    rig.with_store(work)


def forget(rig: Rig) -> None:
    async def work(store: Store) -> None:
        from strangler_proxy.core.evidence import Bounds

        later = dt.datetime.now(dt.UTC) + dt.timedelta(days=999)
        for flag in FLAGS:
            await store.evidence.prune(flag, Bounds(samples=0, days=1), later)

    rig.with_store(work)
