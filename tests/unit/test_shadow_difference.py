"""Differences of JSON, HTML, text and bytes: what differs is found at its folded path, what does not is not."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core.difference import Constant, Kind, Limits, Repeated
from strangler_proxy.core.document import NotJson, read_document, read_json
from strangler_proxy.core.markup import read_html, walk_html
from strangler_proxy.core.rules import RuleSet
from strangler_proxy.core.walk import Walk

scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=5),
    max_leaves=20,
)


def differences(a: Any, b: Any, limits: Limits | None = None) -> list[tuple[str, str]]:
    return [(found.path, found.kind.value) for found in walked(a, b, limits).found.all()]


def walked(a: Any, b: Any, limits: Limits | None = None) -> Walk:
    walk = Walk(RuleSet(), limits or Limits())
    walk.pair("", "", a, b)
    return walk


def html(a: str, b: str) -> list[tuple[str, str]]:
    walk = Walk(RuleSet(), Limits())
    walk_html(walk, read_html(a), read_html(b))
    return [(found.path, found.kind.value) for found in walk.found.all()]


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(values, values)
@settings(max_examples=100, deadline=None)
def test_two_values_are_without_difference_exactly_when_they_are_the_same_json(a: Any, b: Any) -> None:
    assert (differences(a, b) == []) == (exactly(a) == exactly(b))
    assert differences(a, copy.deepcopy(a)) == []


@given(values, st.data())
@settings(max_examples=60, deadline=None)
def test_one_changed_leaf_is_found(a: Any, data: st.DataObject) -> None:
    b = copy.deepcopy(a)
    box = [b]
    holder: Any = box
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key]:
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
    holder[key] = "changed-value"
    assert differences(a, box[0]), (a, box[0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ('{"items":[{"price":1},{"price":2}]}', '{"items":[{"price":1},{"price":3}]}', [("items[].price", "value")]),
        ('{"a":1}', "{}", [("a", "missing")]),
        ("{}", '{"a":null}', [("a", "extra")]),
        ('{"a":null}', '{"a":[]}', [("a", "type")]),
        ('{"a":1}', '{"a":true}', [("a", "type")]),
        ('{"a":1}', '{"a":"1"}', [("a", "type")]),
        ('{"a":1.10}', '{"a":1.1}', []),
        ('{"a":1}', '{"a":1.0}', []),
        ('{"a":"1.10"}', '{"a":"1.1"}', [("a", "value")]),
        ('{"a":9007199254740993}', '{"a":9007199254740992}', [("a", "value")]),
        ('{"a":0.1}', '{"a":0.10000000000000001}', [("a", "value")]),
        ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }', []),
        ('{"a":"\u00e9"}', '{"a":"e\u0301"}', [("a", "value")]),
        ("[1,2,3]", "[1,3,2]", [("[]", "order")]),
        ("[1,2,3]", "[1,3,3]", [("[]", "value")]),
        ("[1,2,3]", "[1,3]", [("[]", "length")]),
        ('{"a":[{"x":1},{"x":2}]}', '{"a":[{"x":2},{"x":1}]}', [("a", "order")]),
        ('{"2026-01-01":{"n":1}}', '{"2026-01-01":{"n":2}}', [("{}.n", "value")]),
        ('{"a.b":1}', '{"a.b":2}', [('"a.b"', "value")]),
        ('{"a":NaN}', '{"a":NaN}', []),
        ('{"a":NaN}', '{"a":"NaN"}', [("a", "type")]),
        ('{"a":1,"a":2}', '{"a":2}', [("a", "type")]),
        ('{"a":1e999999999}', '{"a":1e999999998}', [("a", "value")]),
    ],
)
def test_json_differs_where_it_differs(a: str, b: str, expected: list[tuple[str, str]]) -> None:
    assert differences(read_json(a)[0], read_json(b)[0]) == expected


def test_counts_say_how_often_a_path_differs_and_the_first_place_is_kept() -> None:
    walk = walked({"i": [{"p": n} for n in range(9)]}, {"i": [{"p": n + (n > 3) * 90} for n in range(9)]})
    (found,) = walk.found.all()
    assert (found.path, found.count, found.at, found.control, found.candidate) == ("i[].p", 5, "i[4].p", 4, 94)


def test_a_map_with_very_many_keys_is_one_path() -> None:
    a = {f"key{chr(97 + n % 26)}{chr(97 + n // 26)}": n for n in range(100)}
    assert differences(a, {key: n + 1 for key, n in a.items()}) == [("{}", "value")]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1] * 1_000_000, [2] * 1_000_000),
        ([{"x": n} for n in range(80_000)], [{"x": -n - 1} for n in range(80_000)]),
        ({f"k{n}": [n] for n in range(80_000)}, {f"k{n}": [n + 1] for n in range(80_000)}),
    ],
    ids=["equal items", "unlike items", "wide object"],
)
def test_a_huge_document_is_cut_off_and_the_cut_is_counted(a: Any, b: Any) -> None:
    walk = walked(a, b)
    assert walk.found.cuts.get("size")
    assert sum(found.count for found in walk.found.all()) <= 40_000


def test_a_deep_document_is_cut_off_and_the_cut_is_counted() -> None:
    deep: list[Any] = [[], []]
    for leaf in (1, 2):
        value: Any = leaf
        for _ in range(300):
            value = {"a": [value]}
        deep[leaf - 1] = value
    assert walked(deep[0], deep[1]).found.cuts == {"depth": 1}


def test_more_differences_than_the_limit_are_counted() -> None:
    a = {chr(97 + n): n for n in range(20)}
    walk = walked(a, {key: n + 1 for key, n in a.items()}, Limits(differences=5))
    assert (len(walk.found.all()), walk.found.more) == (5, 15)


def test_json_that_is_too_deep_or_broken_is_said_to_be_so() -> None:
    with pytest.raises(NotJson, match="too deep"):
        read_json("[" * 10_000 + "]" * 10_000)
    with pytest.raises(NotJson, match="character 5"):
        read_json('{"a":')
    value, problems = read_json('{"n": %s, "x": NaN, "x": -Infinity, "e": 1e9999999999999999999}' % ("9" * 6_000))
    assert value["x"] == Repeated([Constant("NaN"), Constant("-Infinity")])
    assert value["n"] == 10**6_000 - 1
    assert len(problems) == 4


def test_invalid_utf8_is_read_as_text_that_differs() -> None:
    a, b = read_document(b'{"a":"\xff"}', "application/json"), read_document(b'{"a":"\xfe"}', "application/json")
    assert a.problems == ("invalid utf-8 at byte 6",)
    assert differences(a.content, b.content) == [("a", "value")]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("<p class='b a' id=x>1 <b>2</b>", '<html><body><!-- c --><P id="x" class="a  b">1\n<b>2</b></p>', []),
        ("<ul><li>a<li>b</ul>", "<ul><li>a</li><li>b</li></ul>", []),
        ("<main><p>a</p></main>", "<main><p>b</p></main>", [("html:main > p", "value")]),
        ("<ul><li>a<li>b</ul>", "<ul><li>b<li>a</ul>", [("html:ul", "order")]),
        ("<ul><li>a<li>b</ul>", "<ul><li>a</ul>", [("html:ul", "length")]),
        ("<a href=/x>1</a>", "<a href=/y>1</a>", [("html:a[href]", "value")]),
        ("<input name=q value=1>", "<input name=q>", [("html:input[name=q][value]", "missing")]),
        ("<p>&eacute;&amp;</p>", "<p>é&amp;</p>", []),
        ("<b>x</b>", "<i>x</i>", [("html:", "type")]),
        ("<pre>a  b</pre>", "<pre>a b</pre>", [("html:pre", "value")]),
        ("<div>" * 150 + "a", "<div>" * 150 + "b", None),
    ],
)
def test_html_differs_where_its_tree_differs(a: str, b: str, expected: list[tuple[str, str]] | None) -> None:
    found = html(a, b)
    assert found == expected if expected is not None else [kind for _, kind in found] == ["value"]


@pytest.mark.parametrize("piece", ["<![", "<!--", "<a ", "<?", "</", "<p x='", "<div>", "<script>", "&", "<!x>"])
def test_no_html_makes_reading_slow(piece: str) -> None:
    document = read_document((piece * (100_000 // len(piece))).encode(), "text/html")
    assert document.form.value in ("html", "text")


def test_random_edits_of_a_list_never_hang_or_pass_unseen() -> None:
    chance = random.Random(7)
    for _ in range(200):
        a = [{"id": n, "v": chance.randrange(5)} for n in range(chance.randrange(1, 30))]
        b = copy.deepcopy(a)
        for _ in range(chance.randrange(1, 4)):
            edit = chance.randrange(3)
            if edit == 0 and b:
                del b[chance.randrange(len(b))]
            elif edit == 1:
                b.insert(chance.randrange(len(b) + 1), {"id": 99, "v": 9})
            elif b:
                b[chance.randrange(len(b))]["v"] = 77
        assert (differences(a, b) == []) == (a == b)
        kinds = {kind for _, kind in differences(a, b)}
        assert (Kind.LENGTH.value in kinds) == (len(a) != len(b))
