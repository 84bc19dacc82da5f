"""Ten thousand made-up secrets in every part of requests and answers: none is in what shadow mode keeps or says."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import psycopg
import pytest
from psycopg import sql

from strangler_proxy.store import migrate
from tests.acceptance.shadow_ends import SECRET, cli, drive, module, report_of, settled, shadowing, told
from tests.acceptance.shadow_secrets_site import ANSWERS, is_named, made
from tests.unit.test_shadow_redaction import spellings

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SECRETS = int(os.environ.get("SECRETS", "10000"))
"""A third of them is asked, a third is answered by each side."""
SHOWN = 8
BEGINNING = 10
SIDES = ("asked", "control", "candidate")
PLACES = ("path", "query", "header", "cookie", "bearer", "json", "form")

Asked = tuple[str, str, str, bytes]


def asked(number: int) -> Asked:
    """A request with its secret in one of the places."""
    secret, name = made(number, "asked")
    place = PLACES[number // 5 % len(PLACES)]
    path = f"/{list(ANSWERS)[number // 35 % len(ANSWERS)]}"
    fields, body, method = "", b"", "GET"
    query = {"n": str(number)}
    if place == "path":
        path += f"/{'reset' if is_named(number) else 'of'}/{quote(secret, safe='')}"
    elif place == "query":
        path, query[name] = f"{path}/x", secret
    elif place == "header":
        path += "/x"
        fields = f"X-{'Api-Key' if is_named(number) else 'Note'}: {_plain(secret)}\r\n"
    elif place == "cookie":
        path, fields = f"{path}/x", f"Cookie: theme=dark; sessionid={quote(secret)}\r\n"
    elif place == "bearer":
        path, fields = f"{path}/x", f"Authorization: Bearer {quote(secret)}\r\n"
    elif place == "json":
        path, method = f"{path}/x", "POST"
        body = json.dumps({"a": {name: secret}, "list": [{name: secret}]}).encode()
        fields = "Content-Type: application/json\r\n"
    else:
        path, method = f"{path}/x", "POST"
        body = urlencode({"a": "1", name: secret}).encode()
        fields = "Content-Type: application/x-www-form-urlencoded\r\n"
    return method, f"{path}?{urlencode(query)}", fields, body


def _plain(secret: str) -> str:
    return quote(secret, safe=" !#$&'()*+,/:;=?@[]~")


def every(count: int) -> Iterator[tuple[int, str, str]]:
    """Number, side and secret of all that were spoken."""
    for number in range(count):
        for side in SIDES:
            yield number, side, made(number, side)[0]


def leaks(kept: bytes, count: int) -> list[tuple[int, str, str]]:
    """Which secrets stand in some bytes, in any spelling; one pass over them, by how spellings begin."""
    lower = kept.lower()
    beginnings: dict[bytes, list[tuple[bytes, int, str, str]]] = {}
    for number, side, secret in every(count):
        for spelled in {*spellings(secret), quote_plus(secret, safe="@"), _plain(secret), escape(secret)}:
            form = spelled.encode("utf-8", "surrogateescape").lower()
            assert len(form) >= BEGINNING, spelled
            beginnings.setdefault(form[:BEGINNING], []).append((form, number, side, spelled))
    found = {
        (number, side, spelled)
        for place in range(len(lower) - BEGINNING + 1)
        for form, number, side, spelled in beginnings.get(lower[place : place + BEGINNING], ())
        if lower.startswith(form, place)
    }
    return sorted({(number, side): (number, side, spelled) for number, side, spelled in found}.values())


@pytest.fixture(params=["sqlite", "postgres"])
def evidence(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where it is kept."""
    if request.param == "sqlite":
        return str(tmp_path / "evidence.sqlite")
    make: Callable[[str], str] = request.getfixturevalue("make_database")
    url = make("evidence")
    migrate(url)
    return url


def test_no_secret_is_kept_or_said(evidence: str, tmp_path: Path) -> None:
    count = SECRETS // len(SIDES) + 1
    site = "tests.acceptance.shadow_secrets_site"
    secret = {"STRANGLER_SIGNING_SECRET": SECRET}
    numbers = itertools.count()
    with (
        module(tmp_path, site, "--side", "control", **secret) as control,
        module(tmp_path, site, "--side", "candidate", **secret) as candidate,
        shadowing(tmp_path, control, candidate, STRANGLER_ACCESS_LOG="1") as proxy,
    ):
        proxy.arguments[proxy.arguments.index("--evidence") + 1] = evidence
        proxy.start()
        statuses = drive(proxy.port, lambda _: asked(next(numbers)), count + 4)
        settled()
        assert proxy.stop() == 0
    report = report_of(tmp_path)
    assert statuses[200] > 0.95 * count, statuses
    assert report["coverage"]["share"] > 0.95, (report["coverage"], report["drops"])
    assert any(stratum["method"] == "POST" for stratum in report["strata"])
    check(evidence, tmp_path, count, report["coverage"]["compared"])


def check(evidence: str, folder: Path, count: int, compared: int) -> None:
    """Look into everything, byte by byte."""
    samples = shown(evidence, folder)
    kept = stored(evidence, folder)
    said = (folder / "report.json").read_bytes() + (folder / "page.html").read_bytes()
    log = (folder / "proxy.log").read_bytes()
    found = leaks(b"\n".join([kept, samples, said]), count) + leaks(log, count)
    told(
        f"secrets, evidence in {'PostgreSQL' if '://' in evidence else 'SQLite'}: {count * len(SIDES)} in {compared}"
        f" compared pairs; {len(found)} found in {len(kept):,} bytes of evidence, {len(samples) + len(said):,} of"
        f" reports and samples, {len(log):,} of logs"
    )
    assert not found, (len(found), random.sample(found, min(len(found), 10)))
    assert kept.count(b"[secret:") > 100, "samples were kept, with marks in them"


def shown(evidence: str, folder: Path) -> bytes:
    """What the CLI says: the report, some samples side by side, all of them exported, the page."""
    where = ["--evidence", evidence]
    cli("shadow", "export", *where, str(folder / "exported.jsonl"))
    exported = (folder / "exported.jsonl").read_text()
    text = exported + cli("shadow", "report", *where, "--html", str(folder / "page.html"))
    ids = re.findall(r'"id":"([0-9a-f]{32})"', exported)
    assert len(ids) > SHOWN
    for id_ in ids[:SHOWN]:
        text += cli("shadow", "show", id_, *where)
    return text.encode()


def stored(evidence: str, folder: Path) -> bytes:
    """The file as it lies there, or every row of every table."""
    if "://" not in evidence:
        return b"".join(path.read_bytes() for path in folder.glob("evidence.sqlite*"))
    rows: list[str] = []
    with psycopg.connect(evidence) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table))
            rows += [row[0] for row in connection.execute(query)]
    return "\n".join(rows).encode()
