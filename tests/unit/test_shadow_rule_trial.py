"""Trying rules on recorded samples: what they would cover, and what nobody can tell from redacted values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.rule_trial import Trial, try_rule
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from tests.ports.evidence_samples import sample

TODAY = dt.date(2026, 11, 27)
MARKS = "[secret:0123456789ab]", "[secret:ba9876543210]"


def rule(kind: RuleKind = RuleKind.IGNORE, path: str = "price", **changes: Any) -> Rule:
    return Rule(id="new", kind=kind, path=path, owner="o", reason="r", expires_on=dt.date(2099, 1, 1), **changes)


def recorded(number: int, control: object, candidate: object, *differences: SampledDifference, **more: Any) -> Sample:
    """A sample with these bodies (JSON) and differences."""
    bodies = [each if isinstance(each, str) else json.dumps(each) for each in (control, candidate)]
    fields = (("content-type", "application/json"),)
    answers = [SampledAnswer(status=200, fields=fields, body=body) for body in bodies]
    return dataclasses.replace(
        sample(number), control=answers[0], candidate=answers[1], differences=differences, **more
    )


def at(path: str, control: object, candidate: object, kind: str = "value", **more: Any) -> SampledDifference:
    return SampledDifference(path=path, kind=kind, control=json.dumps(control), candidate=json.dumps(candidate), **more)


def fates(trial: Trial) -> dict[str, tuple[int, int, int]]:
    return {each.path: (each.covered, each.left, each.unknown) for each in trial.paths.values()}


def tried(new: Rule, *samples: Sample, rules: tuple[Rule, ...] = ()) -> Trial:
    return try_rule(new, samples, rules=rules, today=TODAY)


def prices(number: int, control: float, candidate: float) -> Sample:
    return recorded(number, {"price": control}, {"price": candidate}, at("price", control, candidate))


def test_a_tolerance_covers_what_is_near_and_leaves_what_is_not() -> None:
    found = tried(rule(RuleKind.TOLERANCE, absolute=Decimal("0.1")), prices(1, 1.0, 1.05), prices(2, 1.0, 1.5))
    assert fates(found) == {"price": (1, 1, 0)}
    assert (found.samples, found.differing, found.settled, found.confirmed_settled, found.unmatched) == (2, 2, 1, 1, 1)
    assert [(each.sample, each.control, each.candidate) for each in found.hidden] == [(sample(1).id, "1.0", "1.05")]


def test_every_value_of_an_array_counts_not_only_the_recorded_first() -> None:
    one = recorded(1, {"items": [{"p": 1}, {"p": 1}]}, {"items": [{"p": 1.05}, {"p": 9}]},
                   at("items[].p", 1, 1.05, count=2))  # fmt: skip
    found = tried(rule(RuleKind.TOLERANCE, "items[].p", absolute=Decimal("0.1")), one)
    assert fates(found) == {"items[].p": (0, 1, 0)}


def test_a_tolerance_on_marks_of_secrets_cannot_be_told() -> None:
    one = recorded(1, {"pin": MARKS[0]}, {"pin": MARKS[1]}, at("pin", *MARKS))
    found = tried(rule(RuleKind.TOLERANCE, "pin", absolute=Decimal(1)), one)
    assert (fates(found), found.settled) == ({"pin": (0, 0, 1)}, 0)
    assert any(each.startswith("unknown:") for each in found.notes)


def test_an_alias_can_be_told_from_marks_because_equal_secrets_have_equal_marks() -> None:
    def pair(number: int, a: str, b: str) -> Sample:
        return recorded(number, {"id": a}, {"id": b}, at("id", a, b))

    found = tried(rule(RuleKind.ALIAS, "id"), pair(1, MARKS[0], "x"), pair(2, MARKS[0], "x"), pair(3, MARKS[1], "x"))
    assert fates(found) == {"id": (2, 1, 0)}
    assert "1 pairs are not one to one: the rule does not cover them" in found.notes


def test_an_order_is_settled_by_an_unordered_array_but_not_where_items_differ() -> None:
    new = rule(RuleKind.UNORDERED, "tags")
    order = at("tags", ["a", "b"], ["b", "a"], "order")
    assert tried(new, recorded(1, {"tags": ["a", "b"]}, {"tags": ["b", "a"]}, order)).settled == 1
    changed = recorded(2, {"tags": ["a", "b"]}, {"tags": ["a", "c"]}, at("tags[]", "b", "c"))
    found = tried(new, changed)
    assert (found.settled, fates(found)) == (0, {"tags[]": (0, 1, 0)}), "it would only be called something else"


def test_a_rule_that_only_turns_a_difference_into_another_covers_nothing() -> None:
    one = recorded(1, {"items": [{"id": 1}]}, {"items": [{"id": 2}]}, at("items[].id", 1, 2))
    found = tried(rule(RuleKind.KEYED, "items", key="id"), one)
    assert (found.settled, fates(found)) == (0, {"items[].id": (0, 1, 0)}), "one item is missing and one is extra"


@pytest.mark.parametrize("body", ['{"price": 1, "more": "… [cut]', "[not kept: 999999 bytes]"])
def test_bodies_that_were_cut_leave_it_to_the_recorded_values(body: str) -> None:
    one = recorded(1, body, body, at("price", 1, 1.05))
    assert fates(tried(rule(RuleKind.TOLERANCE, absolute=Decimal("0.1")), one)) == {"price": (1, 0, 0)}
    assert fates(tried(rule(RuleKind.TOLERANCE, absolute=Decimal("0.01")), one)) == {"price": (0, 1, 0)}
    many = recorded(1, body, body, at("price", 1, 1.05, count=3))
    assert fates(tried(rule(RuleKind.TOLERANCE, absolute=Decimal("0.1")), many)) == {"price": (0, 0, 1)}
    shortened = recorded(1, body, body, SampledDifference(path="price", kind="value", control='"aaa… (900 characters)'))
    assert fates(tried(rule(RuleKind.TOLERANCE, absolute=Decimal("0.1")), shortened)) == {"price": (0, 0, 1)}
    assert fates(tried(rule(RuleKind.KEYED, "price", key="id"), one)) == {"price": (0, 0, 1)}


def test_ignoring_only_some_kinds_leaves_the_others() -> None:
    one = recorded(1, {"price": 1}, {}, at("price", 1, None, "missing"))
    assert fates(tried(rule(kinds=frozenset({Kind.VALUE})), one)) == {"price": (0, 1, 0)}
    assert fates(tried(rule(kinds=frozenset({Kind.MISSING})), one)) == {"price": (1, 0, 0)}


def test_what_is_covered_already_is_not_counted_and_other_routes_are_left_out() -> None:
    covered = recorded(1, {"price": 1}, {"price": 2}, at("price", 1, 2, covered_by="noise"))
    assert tried(rule(), covered).differing == 0
    found = tried(rule(route="other"), prices(1, 1, 2), prices(2, 1, 2))
    assert (found.samples, found.other_routes, fates(found)) == (0, 2, {})
    by_template = tried(rule(route=sample(1).stratum.path_template), prices(1, 1, 2))
    assert by_template.settled == 1


def test_rules_that_count_today_are_tried_beside_it_and_expired_ones_are_not() -> None:
    both = recorded(1, {"price": 1, "tax": 1}, {"price": 2, "tax": 2}, at("price", 1, 2), at("tax", 1, 2))
    assert tried(rule(), both).settled == 0
    tax = dataclasses.replace(rule(path="tax"), id="tax")
    ended = dataclasses.replace(tax, expires_on=TODAY)
    assert fates(tried(rule(), both, rules=(ended,))) == {"price": (1, 0, 0), "tax": (0, 1, 0)}


def test_a_status_is_judged_without_any_body() -> None:
    one = dataclasses.replace(recorded(1, "", "", at("status", 200, 201)), candidate=SampledAnswer(status=201))
    assert fates(tried(rule(path="status"), one)) == {"status": (1, 0, 0)}
    assert fates(tried(rule(path="price"), one)) == {"status": (0, 1, 0)}
