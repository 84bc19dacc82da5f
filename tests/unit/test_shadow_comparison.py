"""Comparisons: what two answers amount to, under rules and noise, and never matched where nothing was compared."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zlib
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from strangler_proxy.core.comparison import Outcome, compare, compare_control, confirm, not_compared
from strangler_proxy.core.difference import Kind
from strangler_proxy.core.noise import Noise
from strangler_proxy.core.observation import Effect, Failure, Observation, answered, failed
from strangler_proxy.core.rule_findings import Trouble, findings
from strangler_proxy.core.rules import Rule, RuleKind, RuleSet, digest, rules_for
from strangler_proxy.core.stage import Origin

TODAY = dt.date(2026, 5, 1)


def control(body: bytes | Any = b"", *fields: tuple[bytes, bytes], **more: Any) -> Observation:
    return seen(Origin.MONOLITH, body, *fields, **more)


def candidate(body: bytes | Any = b"", *fields: tuple[bytes, bytes], **more: Any) -> Observation:
    return seen(Origin.EXTRACTED, body, *fields, **more)


def seen(origin: Origin, body: bytes | Any, *fields: tuple[bytes, bytes], **more: Any) -> Observation:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not any(name.lower() == b"content-type" for name, _ in fields):
        fields = ((b"Content-Type", b"application/json"), *fields)
    return answered(**({"origin": origin, "status": 200, "fields": fields, "body": raw} | more))


def rule(kind: RuleKind, path: str, **more: Any) -> Rule:
    known = {"id": "r1", "owner": "ana", "reason": "known", "expires_on": dt.date(2026, 6, 1)}
    return Rule(**(known | {"kind": kind, "path": path} | more))


def judged(a: Any, b: Any, *rules: Rule) -> tuple[str, list[tuple[str, str, str]]]:
    found = compare(control(a), candidate(b), rules=RuleSet(rules))
    return found.outcome.value, [(each.path, each.kind.value, each.covered_by) for each in found.differences]


def fields_of(a: list[tuple[bytes, bytes]], b: list[tuple[bytes, bytes]], *rules: Rule) -> list[tuple[str, str]]:
    found = compare(control(b"{}", *a), candidate(b"{}", *b), rules=RuleSet(rules))
    return [(each.path, each.kind.value) for each in found.differences]


def test_when_the_status_differs_that_is_the_difference() -> None:
    found = compare(control({"a": 1}), candidate({"a": 2}, status=201), rules=RuleSet())
    assert [(each.path, each.control, each.candidate) for each in found.differences] == [("status", 200, 201)]
    assert found.outcome is Outcome.MISMATCHED


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([(b"Date", b"1"), (b"Server", b"x")], [(b"Date", b"2")], []),
        ([(b"X-Total", b"7")], [], [("header.x-total", "missing")]),
        ([(b"Vary", b"Cookie, Accept")], [(b"vary", b"accept"), (b"Vary", b"cookie")], []),
        ([(b"Cache-Control", b"no-store")], [(b"Cache-Control", b"max-age=60")], [("header.cache-control", "value")]),
        (
            [(b"Set-Cookie", b"s=1; Path=/; HttpOnly; Secure")],
            [(b"Set-Cookie", b"s=1; secure; path=/")],
            [("cookie.s.httponly", "missing")],
        ),
        ([(b"Set-Cookie", b"s=1")], [], [("cookie.s", "missing")]),
        ([(b"Content-Type", b'application/json; charset="UTF-8"')], [], []),
        (
            [(b"Content-Type", b"text/html")],
            [(b"Content-Type", b"text/plain")],
            [("header.content-type", "value"), ("text", "type")],
        ),
        ([(b"X-Strangler-Fence", b"1")], [], []),
    ],
)  # fmt: skip
def test_fields_are_compared_by_meaning(
    a: list[tuple[bytes, bytes]], b: list[tuple[bytes, bytes]], expected: list[tuple[str, str]]
) -> None:
    first = compare(control(b"{} ", *a), candidate(b"{}", *b), rules=RuleSet())
    assert [(each.path, each.kind.value) for each in first.differences] == expected


def test_a_rule_may_ask_for_a_field_that_is_left_out() -> None:
    asked = rule(RuleKind.COMPARE, "header.server")
    assert fields_of([(b"Server", b"a")], [(b"Server", b"b")], asked) == [("header.server", "value")]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (gzip.compress(b'{"a":1}'), b'{"a": 1}'),
        (zlib.compress(b'{"a":1}'), b'{"a": 1}'),
        (zlib.compress(b'{"a":1}')[2:-4], b'{"a": 1}'),
    ],
    ids=["gzip", "deflate", "raw deflate"],
)
def test_content_coding_is_undone_first(a: bytes, b: bytes) -> None:
    coding = b"gzip" if a[:2] == b"\x1f\x8b" else b"deflate"
    found = compare(control(a, (b"Content-Encoding", coding)), candidate(b), rules=RuleSet())
    assert found.outcome is Outcome.MATCHED
    found = compare(control(a, (b"Content-Encoding", coding)), candidate(b'{"a":2}'), rules=RuleSet())
    assert [each.path for each in found.differences] == ["a"]


def test_a_bomb_a_broken_body_and_an_unknown_coding_are_never_matched() -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    coded = (b"Content-Encoding", b"gzip")
    found = compare(control(b"{}"), candidate(bomb, coded), rules=RuleSet())
    assert [(each.path, each.kind) for each in found.differences] == [("bytes", Kind.ERROR)]
    assert compare(control(bomb, coded), candidate(b"{}"), rules=RuleSet()).outcome is Outcome.INCONCLUSIVE
    found = compare(control(gzip.compress(b"{}"), coded), candidate(b"not gzip", coded), rules=RuleSet())
    assert found.outcome is Outcome.MISMATCHED
    found = compare(control(b"\x01", (b"Content-Encoding", b"br")), candidate(b"{}"), rules=RuleSet())
    assert (found.outcome, found.why) == (Outcome.INCONCLUSIVE, "br is not decodable here")
    undo = {"br": lambda body, limit: b'{"b":1}'}
    found = compare(control(b"\x01", (b"Content-Encoding", b"br")), candidate({"b": 1}), rules=RuleSet(), undo=undo)
    assert found.outcome is Outcome.MATCHED


def test_what_proves_nothing_is_inconclusive_and_a_silent_candidate_is_a_mismatch() -> None:
    down = failed(origin=Origin.EXTRACTED, failure=Failure.TIMEOUT)
    found = compare(control(b"{}"), down, rules=RuleSet())
    assert [(each.path, each.kind) for each in found.differences] == [("status", Kind.ERROR)]
    assert found.outcome is Outcome.MISMATCHED
    assert compare(down, candidate(b"{}"), rules=RuleSet()).outcome is Outcome.INCONCLUSIVE
    cut = control(b"{", truncated=True, body_bytes=5), candidate(b"{", truncated=True, body_bytes=5)
    assert compare(*cut, rules=RuleSet()).outcome is Outcome.INCONCLUSIVE
    deep = b"[" * 5_000 + b"]" * 5_000
    assert compare(control(deep), candidate(b" " + deep), rules=RuleSet()).outcome is Outcome.INCONCLUSIVE
    assert not_compared(control(), candidate(), error="MemoryError").outcome is Outcome.INCONCLUSIVE


def test_a_body_that_is_not_what_its_type_says_differs_from_one_that_is() -> None:
    outcome, found = judged({"a": 1}, b"<html>oops")
    assert (outcome, found) == ("mismatched", [("text", "type", "")])
    assert judged(b"oops", b"oops")[0] == "matched"


def test_effects_are_compared_and_a_double_effect_is_found() -> None:
    mail = Effect(kind="mail", detail={"to": "a"})
    row = Effect(kind="row", detail={"table": "t", "n": 1})
    once, twice = control({}, effects=(row, mail)), candidate({}, effects=(mail, row, mail))
    found = compare(once, twice, rules=RuleSet())
    assert [(each.path, each.kind.value) for each in found.differences] == [("effect.mail", "length")]
    assert compare(once, candidate({}, effects=(mail, row)), rules=RuleSet()).outcome is Outcome.MATCHED
    assert "were not captured" in compare(once, candidate({}), rules=RuleSet()).notes[0]


@pytest.mark.parametrize(
    ("a", "b", "allowed", "outcome"),
    [
        ({"m": {"x": 1}}, {"m": {"x": 2}}, rule(RuleKind.IGNORE, "m"), "ignored"),
        ({"mx": 1}, {"mx": 2}, rule(RuleKind.IGNORE, "m"), "mismatched"),
        ({"m": 1}, {}, rule(RuleKind.IGNORE, "m", kinds=frozenset({Kind.VALUE})), "mismatched"),
        ({"a": [{"t": 1}]}, {"a": [{"t": 2}]}, rule(RuleKind.IGNORE, "*[].t"), "ignored"),
        ({"p": 1.001}, {"p": 1.002}, rule(RuleKind.TOLERANCE, "p", absolute=Decimal("0.001")), "ignored"),
        ({"p": 1.0}, {"p": 1.3}, rule(RuleKind.TOLERANCE, "p", relative=Decimal("0.1")), "mismatched"),
        ({"p": "1.10"}, {"p": "1.1"}, rule(RuleKind.TOLERANCE, "p", scale=2), "ignored"),
        ({"p": "1.10"}, {"p": 1.1}, rule(RuleKind.TOLERANCE, "p", scale=2), "mismatched"),
        ({"t": "2026-01-01T00:00:00Z"}, {"t": "2026-01-01T01:00:01+01:00"},
         rule(RuleKind.TOLERANCE, "t", skew_s=2.0), "ignored"),
        ({"t": "2026-01-01T00:00:00Z"}, {"t": "2026-01-01T01:00:00Z"},
         rule(RuleKind.TOLERANCE, "t", skew_s=2.0), "mismatched"),
        ({"a": [1, 2, 2]}, {"a": [2, 1, 2]}, rule(RuleKind.UNORDERED, "a"), "matched"),
        ({"a": [1, 2, 2]}, {"a": [2, 1, 1]}, rule(RuleKind.UNORDERED, "a"), "mismatched"),
        ({"a": [{"k": 1, "v": 1}, {"k": 2, "v": 2}]}, {"a": [{"k": 2, "v": 2}, {"k": 1, "v": 1}]},
         rule(RuleKind.KEYED, "a", key="k"), "matched"),
        ({"a": [{"k": 1, "v": 1}, {"k": 2, "v": 2}]}, {"a": [{"k": 2, "v": 2}, {"k": 1, "v": 3}]},
         rule(RuleKind.KEYED, "a", key="k"), "mismatched"),
        ({"a": [{"k": 1}]}, {"a": [{"k": 1}, {"k": 1}]}, rule(RuleKind.KEYED, "a", key="k"), "mismatched"),
        ({"id": 42}, {"id": "7f3a"}, rule(RuleKind.ALIAS, "id"), "ignored"),
    ],
)  # fmt: skip
def test_a_rule_allows_what_it_says_and_nothing_else(a: Any, b: Any, allowed: Rule, outcome: str) -> None:
    assert judged(a, b, allowed)[0] == outcome


def test_an_alias_holds_only_while_it_is_one_to_one() -> None:
    rules = RuleSet((rule(RuleKind.ALIAS, "id", alias="user"), rule(RuleKind.ALIAS, "by", id="r2", alias="user")))

    def outcome(a: Any, b: Any) -> str:
        return compare(control(a), candidate(b), rules=rules).outcome.value

    assert outcome({"id": 42}, {"id": "x"}) == "ignored"
    assert outcome({"by": 43}, {"by": "y"}) == "ignored"
    assert outcome({"by": 42}, {"by": "x"}) == "ignored"
    assert outcome({"id": 42}, {"id": "y"}) == "mismatched", "somebody else's row"
    assert outcome({"id": 44}, {"id": "x"}) == "mismatched"


def test_rules_that_are_of_no_use_are_found() -> None:
    rules = [
        rule(RuleKind.IGNORE, "a", id="old", expires_on=TODAY),
        rule(RuleKind.IGNORE, "a", id="soon", expires_on=TODAY + dt.timedelta(days=3)),
        rule(RuleKind.IGNORE, "typo", id="unused"),
        rule(RuleKind.TOLERANCE, "a.b", id="hidden", absolute=Decimal(1)),
        rule(RuleKind.KEYED, "c", id="k1", key="id"),
        rule(RuleKind.UNORDERED, "c", id="k2"),
        rule(RuleKind.TOLERANCE, "d", id="empty"),
        rule(RuleKind.IGNORE, "**", id="all", reason=" "),
    ]
    uses = {each.id: 1 for each in rules if each.id != "unused"}
    found = {(each.rule, each.trouble) for each in findings(rules, today=TODAY, uses=uses, compared=1_000)}
    assert found >= {
        ("old", Trouble.EXPIRED), ("soon", Trouble.EXPIRES_SOON), ("unused", Trouble.MATCHES_NOTHING),
        ("hidden", Trouble.CONTRADICTS), ("k2", Trouble.CONTRADICTS), ("empty", Trouble.INVALID),
        ("all", Trouble.INVALID),
    }  # fmt: skip
    assert ("soon", Trouble.MATCHES_NOTHING) not in found
    good = [rule(RuleKind.TOLERANCE, "p", absolute=Decimal(1)), rule(RuleKind.KEYED, "c", id="r2", key="id")]
    assert findings(good, today=TODAY, uses={"r1": 1, "r2": 1}, compared=1_000) == ()


def test_an_expired_rule_and_one_of_another_route_cover_nothing_and_change_the_digest() -> None:
    rules = [rule(RuleKind.IGNORE, "a", expires_on=TODAY), rule(RuleKind.IGNORE, "b", id="r2", route="other")]
    assert rules_for(rules, ["mine"], TODAY) == ()
    assert rules_for(rules, ["other"], TODAY - dt.timedelta(days=1)) == tuple(rules)
    assert digest(rules) != digest(rules[:1])
    assert digest(rules) == digest([replace(each, reason="said better") for each in reversed(rules)])


def test_noise_is_learned_by_path_and_kind_from_the_control_with_itself() -> None:
    noise, rules = Noise(), RuleSet()
    for turn in range(6):
        found = compare_control(control({"at": turn, "p": 1}), control({"at": turn + 1, "p": 1}), rules=rules)
        assert found is not None
        noise.learn(found)
    at = compare(control({"at": 1, "p": 1}), candidate({"at": 5, "p": 1}), rules=rules, noise=noise)
    assert (at.outcome, at.differences[0].covered_by) == (Outcome.IGNORED, "noise")
    typed = compare(control({"at": 1, "p": 1}), candidate({"at": "5", "p": 1}), rules=rules, noise=noise)
    assert typed.outcome is Outcome.MISMATCHED, "values are noisy, types are not"
    price = compare(control({"at": 1, "p": 1}), candidate({"at": 5, "p": 2}), rules=rules, noise=noise)
    assert price.outcome is Outcome.MISMATCHED
    assert [(path, share.differing, share.pairs) for path, _, share in noise.paths()] == [("at", 6, 6)]


def test_little_evidence_is_no_noise_and_rare_noise_explains_no_constant_difference() -> None:
    found = compare_control(control({"a": 1}), control({"a": 2}), rules=RuleSet())
    assert found is not None
    noise = Noise()
    noise.learn(found)
    assert not noise.is_noise("a", Kind.VALUE)
    for turn in range(300):
        noise.learn(found if turn % 50 == 0 else ())
    assert noise.explains("a", Kind.VALUE, differing=8, pairs=300)
    assert not noise.explains("a", Kind.VALUE, differing=300, pairs=300)


def test_asking_again_tells_a_race_from_a_fault() -> None:
    first = compare(control({"a": 1, "b": 1}), candidate({"a": 2, "b": 1}), rules=RuleSet())
    equal = compare(control({"a": 2, "b": 1}), candidate({"a": 2, "b": 1}), rules=RuleSet())
    assert confirm(first, equal).outcome is Outcome.IGNORED
    assert confirm(first, first).outcome is Outcome.MISMATCHED
    other = compare(control({"a": 1, "b": 1}), candidate({"a": 1, "b": 2}), rules=RuleSet())
    assert confirm(first, other).outcome is Outcome.IGNORED
    broken = compare(control({}), candidate({}, status=500), rules=RuleSet())
    assert confirm(broken, equal).outcome is Outcome.MISMATCHED, "that it works at another time is no excuse"
