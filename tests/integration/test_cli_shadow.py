"""The verbs of shadow mode against a real control plane: reports, samples, import and export, flips."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.sample import read_sample
from strangler_proxy.core.stage import Stage
from tests.integration.control_rig import Rig
from tests.integration.shadow_cli_rig import (
    catalog_evidence,
    forget,
    give,
    said,
    shadow_rig,
)
from tests.ports.evidence_samples import key, sample, stratum, tally
from tests.servers import EmbeddedPostgres


@pytest.fixture(scope="module")
def rig(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane for this file."""
    with shadow_rig(postgres, tmp_path_factory.mktemp("shadow")) as made:
        yield made


@pytest.fixture
def evidence(rig: Rig) -> Iterator[None]:
    """Fresh evidence of `catalog`."""
    with catalog_evidence(rig):
        yield


def test_a_report_names_verdicts_coverage_differences_drops_and_latency(rig: Rig, evidence: None) -> None:
    done = rig.run("shadow", "report", "catalog")
    assert done.code == 0
    words = " ".join(done.out.split())
    for part in ("mismatched", "91 %", "/one", "/list", "price", "queue_full", "P50", "10 confirmed"):
        assert part in words, done.out
    assert f"next: strangler shadow show {sample(2).id}" in done.err
    document = rig.run("shadow", "report", "catalog", "-o", "json").document
    assert document["verdict"] == "mismatched"
    assert document["coverage"] == {"eligible": 10_000, "mirrored": 9_500, "compared": 9_100, "share": 0.91}
    assert [(each["path_template"], each["verdict"]) for each in document["strata"]] == [
        ("/one", "mismatched"),
        ("/list", "matched"),
    ]
    assert document["strata"][0]["differences"][0]["sample"] == sample(2).id
    assert any('rule "old": it expired on 2020-01-01' in each for each in document["rule_findings"])
    assert any('rule "clock"' in each and "covered nothing" in each for each in document["rule_findings"])


def test_a_report_is_also_one_page(rig: Rig, evidence: None) -> None:
    page = rig.folder / "report.html"
    done = rig.run("shadow", "report", "catalog", "--html", str(page))
    assert (done.code, f"report: {page}" in done.err) == (0, True), done.err
    text = page.read_text()
    assert text.lower().startswith("<!doctype html")
    assert sample(2).id in text
    assert "[cookie:0123456789ab]" in text, "the samples that differences name are in it"


def test_without_evidence_a_report_says_so_and_what_to_do(rig: Rig) -> None:
    done = rig.run("shadow", "report", "empty")
    assert done.code == 0
    assert "there is no evidence yet" in done.err
    assert "next: strangler flip empty shadow" in done.err
    rig.set_stage("empty", Stage.SHADOW)
    assert "next: strangler status empty" in rig.run("shadow", "report", "empty").err
    rig.set_stage("empty", Stage.MONOLITH)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("report", "catalo"), 2, 'did you mean "catalog"?'),
        (("report",), 2, "name the flag whose evidence is meant, or --evidence FILE"),
        (("report", "catalog", "--since", "yesterday"), 2, '"yesterday" is no time'),
        (("report", "catalog", "--html", "report.pdf"), 2, "must end in .html"),
        (("report", "--evidence", "nowhere.sqlite"), 1, "there is no evidence file nowhere.sqlite"),
        (("show", "0123456789ab"), 2, 'there is no sample "0123456789ab"'),
        (("rule", "list", "catalo"), 2, 'did you mean "catalog"?'),
        (("rule", "expire", "clock", "--flag", "catalog"), 2, "a declared one ends in its capability file"),
        (("rule", "test", "catalog", "--path", "x"), 2, "give one of --ignore, --tolerance"),
        (("rule", "test", "catalog", "--path", "x", "--ignore", "--unordered"), 2, "ignore, unordered was given"),
        (("rule", "test", "catalog", "--path", "x", "--tolerance", "much"), 2, '--tolerance "much": give 0.01'),
        (("rule", "test", "catalog", "--path", "*", "--ignore"), 2, "it would ignore everything"),
        (("rule", "test", "catalog", "--path", "a", "--ignore", "--route", "catalgo"), 2, 'did you mean "catalog"?'),
        (("export", "catalog"), 2, "name the flag and the file"),
    ],
)
def test_what_cannot_be_is_refused_in_words(rig: Rig, words: tuple[str, ...], code: int, says: str) -> None:
    done = rig.run("shadow", *words)
    assert (done.code, says in done.err) == (code, True), done.err


def test_since_leaves_out_what_ended_before(rig: Rig, evidence: None) -> None:
    assert rig.run("shadow", "report", "catalog", "--since", "1h", "-o", "json").document["verdict"] == "mismatched"
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    assert rig.run("shadow", "report", "catalog", "--since", later, "-o", "json").document["strata"] == []


def test_watch_writes_a_document_a_line(rig: Rig, evidence: None) -> None:
    done = rig.run("shadow", "report", "catalog", "--watch", "--interval", "0.5", "--count", "2", "-o", "json")
    assert [json.loads(line)["verdict"] for line in done.out.splitlines()] == ["mismatched"] * 2
    assert "mismatched" in rig.run("shadow", "report", "catalog", "--watch", "--count", "1").out


def test_a_sample_is_shown_side_by_side_with_what_covers_each_difference(rig: Rig, evidence: None) -> None:
    done = rig.run("shadow", "show", sample(2).id)
    assert done.code == 0
    words = " ".join(done.out.split())
    for part in ("GET /api/items/2?page=1", "[cookie:0123456789ab]", '"price": 1', '"price": 2', "effects: 1", "mail:",
                 "price value 1 1 2 nothing", 'at value 1 "a" "b" noise', "confirmed", "(the control)"):  # fmt: skip
        assert part in words, (part, done.out)
    assert "\x1b[" not in done.out
    assert "next: strangler shadow report catalog" in done.err
    found = rig.run("shadow", "show", sample(2).id, "-o", "json").document
    assert read_sample(found) == sample(2)


def test_a_sample_is_found_by_the_beginning_of_its_id(rig: Rig) -> None:
    one = dataclasses.replace(sample(1), id="abcdef01" + "0" * 24)
    two = dataclasses.replace(sample(1), id="abcdef02" + "0" * 24)
    give(rig, "catalog", said(), [one, two])
    assert rig.run("shadow", "show", "abcdef01", "-o", "json").document["id"] == one.id
    done = rig.run("shadow", "show", "abcdef")
    assert (done.code, '2 samples begin with "abcdef"' in done.err) == (2, True)
    forget(rig)


def test_evidence_goes_out_to_a_file_and_comes_back_once(rig: Rig, evidence: None) -> None:
    file = rig.folder / "evidence.jsonl"
    done = rig.run("shadow", "export", "catalog", str(file), "-o", "json")
    assert done.document["samples"] == 3
    assert file.stat().st_mode & 0o077 == 0
    for _ in range(2):
        done = rig.run("shadow", "import", str(file), "--flag", "other", "--reason", "last night", "-o", "json")
        assert (done.code, done.document["strata"], done.document["samples"]) == (0, 2, 3), done.err
    document = rig.run("shadow", "report", "other", "-o", "json").document
    assert document["coverage"]["compared"] == 9_100
    assert document["verdict"] == "mismatched"
    entry = rig.run("flag", "history", "other", "-o", "json").document["entries"][0]
    assert (entry["verb"], entry["reason"], entry["after"]["samples"]) == ("shadow.import", "last night", 3)
    into = rig.folder / "copy.sqlite"
    done = rig.run("shadow", "import", str(file), "--evidence", str(into))
    assert done.code == 0, done.err
    copied = rig.run("shadow", "report", "--evidence", str(into), "-o", "json").document
    assert (copied["coverage"], copied["verdict"]) == (document["coverage"], "mismatched")


def test_malformed_lines_are_named_and_nothing_of_the_file_is_kept(rig: Rig, tmp_path: Path) -> None:
    head = json.dumps(
        {"type": "head", "format": "strangler-evidence", "version": 1, "flag": "empty", "exported_at": ""}
    )
    good = json.dumps({"type": "sample", "sample": sample(7, flag="empty").document()})
    file = tmp_path / "broken.jsonl"
    file.write_text("\n".join([head, good, "{", '{"type":"sample","sample":{}}', '{"type":"guess"}', good]))
    done = rig.run("shadow", "import", str(file))
    assert done.code == 2
    assert f"{file}:3: not a JSON object" in done.err
    assert f"{file}:4: sample: KeyError" in done.err
    assert f"{file}:5: unknown type 'guess'" in done.err
    assert rig.run("shadow", "show", sample(7).id).code == 2
    file.write_text(good)
    assert f"{file}:1: the first line is no head" in rig.run("shadow", "import", str(file)).err


def test_status_says_where_is_mirrored_and_what_the_evidence_says(rig: Rig) -> None:
    rig.set_stage("other", Stage.SHADOW)
    give(rig, "other", said(drops={"no_proof": 12}))
    (found,) = [each for each in rig.run("status", "-o", "json").document["flags"] if each["key"] == "other"]
    assert (found["mirroring"], found["mirrored_to"]) == ("100% to extracted", "extracted")
    assert found["evidence"]["verdict"] == "mismatched"
    assert (found["evidence"]["coverage"], found["evidence"]["unproven"]) == (0.91, 12)
    words = " ".join(rig.run("flag", "show", "other").out.split())
    assert "100% to extracted; mismatched, 91.0% compared, 12 not mirrored: no_proof of captured effects" in words
    (still,) = [each for each in rig.run("status", "-o", "json").document["flags"] if each["key"] == "empty"]
    assert (still["mirroring"], still["evidence"]) == ("none", None)
    rig.set_stage("other", Stage.MONOLITH)
    forget(rig)


def test_evidence_that_cannot_be_read_keeps_nobody_from_the_status(rig: Rig) -> None:
    rig.set_stage("empty", Stage.SHADOW)
    give(rig, "empty", said())
    with psycopg.connect(rig.database_url, autocommit=True) as connection:
        connection.execute("UPDATE strangler.evidence_stratum SET document = '{}'")
    done = rig.run("flag", "show", "empty")
    assert (done.code, "the evidence cannot be read" in done.out) == (0, True), done.err
    report = rig.run("shadow", "report", "empty")
    assert (report.code, "in the evidence cannot be read: KeyError" in report.err) == (2, True), report.err
    forget(rig)
    rig.set_stage("empty", Stage.MONOLITH)


def test_a_flip_that_asks_for_evidence_is_refused_without_thin_or_stale(rig: Rig) -> None:
    rig.set_stage("ledger", Stage.SHADOW)
    done = rig.run("flip", "ledger", "canary", "--weight", "5%")
    assert (done.code, "nothing was ever mirrored and compared" in done.err) == (3, True), done.err
    assert "next: strangler shadow report ledger" in done.err
    give(rig, "ledger", said())
    assert "evidence says mismatched, needed is matched" in rig.run("flip", "ledger", "canary").err
    forget(rig)
    fresh = tally(list=stratum(900))
    now = time.time()
    one = fresh.strata[key("/list")]
    one.first_at, one.last_at, one.requests = now - 9_000, now - 7_200, 900
    fresh.eligible = 1_000
    give(rig, "ledger", fresh)
    done = rig.run("flip", "ledger", "canary", "--weight", "5%")
    assert (done.code, "the last comparison is 2.0 h old, needed is less than 1 h" in done.err) == (3, True), done.err
    one.last_at = now
    give(rig, "ledger", dataclasses.replace(fresh, eligible=1_000_000))
    assert "needed are 1.00%" in rig.run("flip", "ledger", "canary", "--weight", "5%").err
    give(rig, "ledger", fresh)
    done = rig.run("flip", "ledger", "canary", "--weight", "5%")
    assert (done.code, rig.stage_of("ledger")) == (0, ("canary", 500)), done.err
    assert "evidence says matched" in done.out
    forget(rig)
    assert rig.run("flip", "ledger", "shadow").code == 0, "the way back asks for nothing"
    assert rig.run("flip", "ledger", "monolith").code == 0
