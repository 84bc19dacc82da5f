"""Planted faults and innocent noise: shadow mode names each fault by route and path, and nothing else."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.shadow_ends import SECRET, cli, differences, drive, module, report_of, settled, shadowing, told
from tests.acceptance.shadow_plants import KINDS, NOISE, PLANTS, RULES, Asked, Plant
from tests.acceptance.shadow_site_writes import schema

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

REQUESTS = int(os.environ.get("REQUESTS", "4000"))
RULES_READ_S = 6.0


def asked(chance: random.Random) -> Asked:
    """One request of any kind."""
    return chance.choice(KINDS)(chance)


def is_of(plant: Plant, stratum: dict[str, Any]) -> bool:
    return (stratum["method"], stratum["path_template"]) == (plant.method, plant.template)


def found(plant: Plant, report: dict[str, Any]) -> bool:
    """Is it reported, and confirmed, by route, path and kind?"""
    return any(
        is_of(plant, stratum)
        and (each["path"], each["kind"]) == (plant.path, plant.kind.value)
        and each["confirmed"] > 0
        and stratum["verdict"] == "mismatched"
        for stratum, each in differences(report)
    )


def is_planted(stratum: dict[str, Any], difference: dict[str, Any]) -> bool:
    """Does a difference come from a plant?"""
    return any(is_of(plant, stratum) and difference["path"] in (plant.path, *plant.more) for plant in PLANTS)


def give_rules(folder: Path) -> None:
    """What a team has to say by itself, and the time until it counts."""
    for name, *words in RULES:
        said = ["--id", name, "--owner", "shop", "--reason", "see shadow_plants", "--expires", "2036-01-01"]
        cli("shadow", "rule", "add", "--evidence", str(folder / "evidence.sqlite"), *words, *said)
    time.sleep(RULES_READ_S)


def test_every_planted_fault_is_named_and_no_noise(make_database: Callable[[str], str], tmp_path: Path) -> None:
    databases = {side: make_database(f"shadow_{side}") for side in ("control", "candidate")}
    for url in databases.values():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(schema().encode())
    site = "tests.acceptance.shadow_site"
    secret = {"STRANGLER_SIGNING_SECRET": SECRET}
    with (
        module(tmp_path, site, "--side", "control", "--database", databases["control"], **secret) as control,
        module(tmp_path, site, "--side", "candidate", "--database", databases["candidate"], **secret) as candidate,
        shadowing(tmp_path, control, candidate) as proxy,
    ):
        proxy.start()
        give_rules(tmp_path)
        began = time.monotonic()
        statuses = drive(proxy.port, asked, REQUESTS)
        lasted = time.monotonic() - began
        settled()
        assert proxy.stop() == 0
    report = report_of(tmp_path)
    missed = [plant.name for plant in PLANTS if not found(plant, report)]
    wrong = [
        (stratum["method"], stratum["path_template"], each)
        for stratum, each in differences(report)
        if each["count"] > each["covered"] and not is_planted(stratum, each)
    ]
    coverage = report["coverage"]
    told(
        f"planted faults: {sum(statuses.values())} requests in {lasted:.0f} s, coverage {coverage['share']:.1%}, drops"
        f" {report['drops']}: {len(PLANTS) - len(missed)} of {len(PLANTS)} faults named, of {len(NOISE)} kinds of noise"
        f" {len(wrong)} paths called a difference"
    )
    assert not missed, missed
    assert not wrong, wrong
    assert coverage["share"] > 0.9, (coverage, report["drops"])
    with psycopg.connect(databases["candidate"]) as connection:
        for table in ("payment", "invoice", "refund", "address", "mail"):
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row == (0,), table
