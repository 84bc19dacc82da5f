"""`[[compare]]` and `[evidence]` of capability files."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest

from strangler_proxy.core.declaration import declared_changes
from strangler_proxy.core.difference import Kind
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.verdict import Demands
from strangler_proxy.plan import parse_capability
from strangler_proxy.plan.plans import Plans
from strangler_proxy.store.documents import capability_document, capability_from
from strangler_proxy.store.memory import memory_store
from tests.ports.store_samples import MONOLITH

HEAD = """[capability]
monolith = "monolith"
extracted = "monolith"
[routes.items]
path = "/items/{id}"
"""

RULES = """
[[compare]]
id = "cents"
rule = "tolerance"
path = "items[].price"
route = "items"
absolute = 0.1
owner = "catalog-team"
reason = "rounding, until PR 812"
expires_on = 2027-03-31

[[compare]]
id = "nonce"
rule = "ignore"
path = "nonce"
kinds = ["value"]
owner = "catalog-team"
reason = "random"
expires_on = "2027-01-01"
"""

EVIDENCE = """
[evidence]
required = true
fresh_hours = 12
coverage = "5%"
limit = "0.2%"
pairs = 500
hours = 0.5
[evidence.routes.items]
limit = 0.01
"""


def problems(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parse_capability(HEAD + text, "catalog.toml", {})
    return list(caught.value.problems)


def test_rules_are_read_as_they_are_written() -> None:
    found = parse_capability(HEAD + RULES, "catalog.toml", {}).judging
    assert found == Judging(
        rules=(
            Rule(
                id="cents",
                kind=RuleKind.TOLERANCE,
                path="items[].price",
                route="items",
                absolute=Decimal("0.1"),
                owner="catalog-team",
                reason="rounding, until PR 812",
                expires_on=dt.date(2027, 3, 31),
            ),
            Rule(
                id="nonce",
                kind=RuleKind.IGNORE,
                path="nonce",
                kinds=frozenset({Kind.VALUE}),
                owner="catalog-team",
                reason="random",
                expires_on=dt.date(2027, 1, 1),
            ),
        )
    )


def test_demands_on_evidence_are_read_and_a_route_may_have_its_own() -> None:
    found = parse_capability(HEAD + EVIDENCE, "catalog.toml", {}).judging
    assert (found.required, found.fresh_s, found.coverage) == (True, 43_200.0, 0.05)
    assert found.demands == Demands(limit=0.002, min_pairs=500, min_seconds=1_800.0)
    assert found.by_route == {"": found.demands, "items": dataclasses.replace(found.demands, limit=0.01)}


def test_a_file_without_them_judges_by_default() -> None:
    assert parse_capability(HEAD, "catalog.toml", {}).judging == Judging()


def test_what_is_declared_survives_the_way_through_json() -> None:
    declared = parse_capability(HEAD + RULES + EVIDENCE, "catalog.toml", {})
    assert capability_from(capability_document(declared)) == declared


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[[compare]]\nrule = "ignore"\npath = "a"', ['6: compare rule: "id" is missing',
            '6: compare rule "": "owner" is missing', '6: compare rule "": "reason" is missing',
            '6: compare rule "": "expires_on" is missing: no rule is for ever']),
        (RULES.replace("absolute = 0.1", ""), ['9: compare rule "cents": a tolerance needs absolute, relative, scale '
            "or skew_s, none below 0"]),
        (RULES.replace("absolute = 0.1", 'absolute = "much"'), [
            '12: compare rule "cents": absolute much is not a number']),
        (RULES.replace('"tolerance"', '"tolerate"'), ['9: compare rule "cents": rule "tolerate" is none of ignore, '
            "tolerance, unordered, keyed, alias, compare"]),
        (RULES.replace('"nonce"\nrule', '"cents"\nrule'), ['18: compare rule "cents": the id stands for another rule '
            "already"]),
        (RULES.replace('route = "items"', 'route = "item"'), [
            '11: compare rule "cents": there is no route "item" in this file; did you mean "items"?']),
        (RULES.replace("2027-03-31", '"soon"'), [
            '15: compare rule "cents": expires_on soon is not a date (2027-03-31)']),
        (RULES.replace('["value"]', '["values"]'), ['21: compare rule "nonce": kinds names "values", which is none of '
            "missing, extra, type, value, order, length, error"]),
        (RULES.replace('path = "nonce"', 'path = "items"').replace('kinds = ["value"]', ""), [
            '10: compare rule "cents": rule "nonce" ignores that path, so that this rule never counts: keep one']),
        (RULES.replace("owner =", "owners ="), ['7: compare rule "cents": "owner" is missing',
            '13: compare rule "cents": unknown key "owners"; did you mean "owner"?']),
        ("[evidence]\nlimit = 0", ["7: evidence: limit is 0: no finite evidence can show that; give a share above it"]),
        ('[evidence]\ncoverage = "much%"', ['7: evidence: coverage much% is not a share (0.001 or "0.1%")']),
        ("[evidence]\nhours = -1", ["7: evidence: hours -1 is not a number of hours, 0..8760"]),
        ("[evidence.routes.other]\npairs = 3", ['6: evidence "other": there is no route "other" in this file']),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, wanted: list[str]) -> None:
    found = problems(text)
    for each in wanted:
        assert any(f"catalog.toml:{each}" in one for one in found), found


def test_an_expired_rule_does_not_keep_a_file_from_being_applied() -> None:
    old = RULES.replace("2027-03-31", "2020-03-31")
    assert len(parse_capability(HEAD + old, "catalog.toml", {}).judging.rules) == 2


async def test_apply_shows_rules_line_by_line_and_the_store_gives_them_back() -> None:
    first = dataclasses.replace(parse_capability(HEAD + RULES, "catalog.toml", {}), clusters=(MONOLITH,))
    store = memory_store()
    await store.switches.apply([first], default_cluster="monolith", by="me", reason="", expected_revision=None)
    assert await store.manifests.judging("catalog") == first.judging
    assert list(await store.evidence.rules("catalog")) == list(first.judging.rules)
    cents, _ = first.judging.rules
    changed = dataclasses.replace(
        first,
        judging=Judging(
            rules=(
                dataclasses.replace(cents, absolute=Decimal("0.2")),
                dataclasses.replace(cents, id="new", path="tax"),
            ),
            required=True,
        ),
    )
    plans = Plans(capabilities=(changed,), default_cluster="monolith")
    found = declared_changes(
        await store.records.table(), {}, plans.capabilities, "monolith", {"catalog": first.judging}
    )
    assert [str(each) for each in found] == [
        '~ compare rule "catalog" "cents": absolute 0.1 -> 0.2',
        '+ compare rule "catalog" "new" tax',
        '- compare rule "catalog" "nonce" nonce',
        '~ evidence "catalog": required no -> yes',
    ]
