"""`strangler shadow rule` against a real control plane: added, listed, tried, expired."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.control_rig import TOKEN, VIEWER, Rig
from tests.integration.shadow_cli_rig import (
    catalog_evidence,
    forget,
    give,
    said,
    shadow_rig,
)
from tests.ports.evidence_samples import sample
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


def rule_words(flag: str = "catalog", **options: str) -> list[str]:
    given = {"path": "price", "tolerance": "1", "owner": "ada", "reason": "rounding", "expires": "2099-01-01"} | options
    words = ["shadow", "rule", "add", flag]
    for name, value in given.items():
        words += [] if not value else [f"--{name}"] if value == "yes" else [f"--{name}", value]
    return words


def test_a_rule_is_added_listed_and_expired_and_each_change_is_audited(rig: Rig) -> None:
    done = rig.run(*rule_words("other", route="other"))
    assert done.code == 0, done.err
    assert "tolerance-price" in done.out
    again = rig.run(*rule_words("other", route="other"), "-o", "json")
    assert again.document["rule"]["id"] == "tolerance-price-2"
    assert "covers the same path" in again.err
    done = rig.run("shadow", "rule", "expire", "tolerance-price-2", "--flag", "other", "--reason", "twice")
    assert done.code == 0
    listed = rig.run("shadow", "rule", "list", "other", "-o", "json").document["rules"]
    today = dt.datetime.now(dt.UTC).date().isoformat()
    assert [(each["id"], each["source"], each["counts"], each["expires_on"]) for each in listed] == [
        ("tolerance-price", "added", True, "2099-01-01"),
        ("tolerance-price-2", "added", False, today),
    ]
    words = " ".join(rig.run("shadow", "rule", "list", "other").out.split())
    assert "within 1 other ada 2099-01-01 0 added rounding" in words
    history = rig.run("flag", "history", "other", "-o", "json").document["entries"]
    assert [(each["verb"], each["reason"]) for each in history[:3]] == [
        ("shadow.rule_expire", "twice"),
        ("shadow.rule_add", "rounding"),
        ("shadow.rule_add", "rounding"),
    ]
    assert history[1]["after"]["absolute"] == "1"
    assert rig.run("audit", "verify").code == 0


def test_declared_rules_are_listed_with_what_is_wrong_with_them(rig: Rig, evidence: None) -> None:
    done = rig.run("shadow", "rule", "list", "catalog")
    words = " ".join(done.out.split())
    assert "clock at within 2 s all catalog-team 2099-01-01 0 capability file clocks matches nothing" in words
    assert "old nonce ignored all catalog-team 2020-01-01 0 capability file random expired" in words
    assert (
        'rule "old" expired: it expired on 2020-01-01 and covers nothing: catalog-team renews or removes it' in done.err
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"expires": "2020-01-01"}, "2020-01-01 is not after today"),
        ({"expires": "soon"}, '--expires "soon" is no date'),
        ({"tolerance": "", "keyed": "id", "path": "items", "owner": " "}, "it has no owner"),
        ({"tolerance": "", "ignore": "yes", "kind": "strange"}, "strange"),
        ({"tolerance": "", "compare": "yes"}, "only headers (header.NAME) can be asked for"),
    ],
)
def test_impossible_rules_are_refused_and_nothing_is_kept(rig: Rig, options: dict[str, str], says: str) -> None:
    done = rig.run(*rule_words("empty", **options))
    assert (done.code, says in done.err) == (2, True), done.err
    assert rig.run("shadow", "rule", "list", "empty", "-o", "json").document["rules"] == []


def test_a_viewer_may_look_and_try_but_not_change(rig: Rig, evidence: None) -> None:
    def run(*words: str) -> int:
        return rig.run("shadow", *words, STRANGLER_CONTROL_TOKEN=VIEWER).code

    assert run("report", "catalog") == 0
    assert run("rule", "test", "catalog", "--path", "price", "--ignore") == 0
    assert run(*rule_words()[1:]) == 1
    assert run("rule", "expire", "x", "--flag", "catalog") == 1
    assert TOKEN not in rig.log.read_text()


def test_evidence_of_before_a_rule_says_nothing_about_it(rig: Rig) -> None:
    give(rig, "catalog", said())
    listed = rig.run("shadow", "rule", "list", "catalog", "-o", "json").document["rules"]
    assert [(each["id"], [one["trouble"] for one in each["findings"]]) for each in listed] == [
        ("clock", []),
        ("old", ["expired"]),
    ]
    forget(rig)


def test_trying_a_rule_shows_what_it_would_hide_and_adds_nothing(rig: Rig, evidence: None) -> None:
    done = rig.run("shadow", "rule", "test", "catalog", "--path", "price", "--tolerance", "1")
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    assert "samples tried 3" in words
    assert "would be settled 3, of which 3 confirmed mismatches" in words
    assert f"price value 1 2 {sample(3).id}" in words
    assert "it would hide 3 confirmed mismatches" in done.err
    found = rig.run("shadow", "rule", "test", "catalog", "--path", "price", "--tolerance", "0.5", "-o", "json").document
    assert found["trial"]["paths"] == [{"path": "price", "kind": "value", "covered": 0, "left": 3, "unknown": 0}]
    assert found["trial"]["unmatched"] == 3
    other = rig.run("shadow", "rule", "test", "catalog", "--path", "price", "--ignore", "--route", "/elsewhere")
    assert "there is no sample to try it on" in other.err
    assert len(rig.run("shadow", "rule", "list", "catalog", "-o", "json").document["rules"]) == 2


def test_a_rule_may_be_there_before_the_evidence(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "new" / "evidence.sqlite"
    words = ("--path", "at", "--ignore", "--owner", "shop", "--reason", "a clock", "--expires", "2999-01-01")
    done = rig.run("shadow", "rule", "add", "--evidence", str(file), *words)
    assert done.code == 0, done.err
    assert f"was not there and is new: serve with --evidence {file}" in " ".join(done.err.split())
    again = rig.run("shadow", "rule", "add", "--evidence", str(file), *words[2:], "--path", "other")
    assert (again.code, "is new" in again.err) == (0, False)
    listed = rig.run("shadow", "rule", "list", "--evidence", str(file), "-o", "json").document["rules"]
    assert [each["path"] for each in listed] == ["at", "other"]
