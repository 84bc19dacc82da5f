"""Places of TOML keys: exactly the keys that tomllib finds, each at the line where it is written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.plan.lines import key_lines
from tests.servers import ROOT

HARD = '''# a [comment] = "not a key"
top = 1
"quoted.key" = "x # not a comment"   # a comment
'lit"eral' = 'C:\\'
a.b."c d" = { x = 1, y = [ { z = "}" }, { z = 2 } ] }

[table]
multi = """
[not.a.table]
key = "no"
""\\" still in it
"""
literal = \'\'\'
'' [x] = 1\'\'\'
five = """ends with two quotes"""""
array = [
  1,  # one
  [ 2, 3 ],

  "]",
]

[table.'sub [x]']
when = 2026-11-22T12:00:00Z

[[list]]
n = 1
[list.inner]
deep = true
[[list]]
n = 2
[[list.nested]]
k = "v"
'''


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found |= paths(inner, (*path, name))
    return found


def test_a_hard_document_has_every_key_at_its_line() -> None:
    lines = key_lines(HARD)
    assert set(lines) == paths(tomllib.loads(HARD))
    text = HARD.split("\n")
    assert text[lines[("top",)] - 1] == "top = 1"
    assert text[lines[("a", "b", "c d", "y", 1, "z")] - 1].startswith("a.b.")
    assert text[lines[("table", "literal")] - 1].startswith("literal =")
    assert text[lines[("table", "five")] - 1].startswith("five =")
    assert text[lines[("table", "array", 1, 1)] - 1].strip() == "[ 2, 3 ],"
    assert text[lines[("table", "array", 2)] - 1].strip() == '"]",'
    assert text[lines[("list", 1, "n")] - 1] == "n = 2"
    assert text[lines[("list", 0, "inner", "deep")] - 1] == "deep = true"
    assert text[lines[("list", 1, "nested", 0, "k")] - 1] == 'k = "v"'


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n")[("b", "c")] == 4


@pytest.mark.parametrize("path", sorted((ROOT / "migrations_plan").glob("*.toml")), ids=lambda p: p.name)
def test_the_files_of_the_example_are_read_in_full(path: Any) -> None:
    text = path.read_text()
    assert set(key_lines(text)) == paths(tomllib.loads(text))


NAMES = st.sampled_from(["a", "b", '"q.r"', "'s t'", "d-1"])
SCALARS = st.sampled_from(
    [
        "1",
        "-2.5",
        "true",
        '"x"',
        '"a # b"',
        '"say \\"hi\\" ]}"',
        "'c:\\'",
        '"""m\n= [x]\n"""',
        "'''l\n'''",
        "1979-05-27",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: "[ " + ",\n # c ]\n ".join(each) + " ]")
        | st.dictionaries(NAMES, inner.filter(lambda v: "\n" not in v), max_size=3).map(
            lambda each: "{ " + ", ".join(f"{k} = {v}" for k, v in each.items()) + " }"
        )
    ),
    max_leaves=6,
)
HEADERS = st.tuples(st.booleans(), st.lists(NAMES, min_size=1, max_size=3)).map(
    lambda each: f"[[{'.'.join(each[1])}]]" if each[0] else f"[{' . '.join(each[1])}] # h"
)
PAIRS = st.tuples(st.lists(NAMES, min_size=1, max_size=2), VALUES).map(lambda each: f"{'.'.join(each[0])} = {each[1]}")
DOCUMENTS = st.lists(HEADERS | PAIRS | st.sampled_from(["", "# note = [x"]), max_size=12).map("\n".join)


@given(DOCUMENTS)
def test_whatever_tomllib_accepts_has_the_same_keys(text: str) -> None:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(key_lines(text)) == paths(values)
