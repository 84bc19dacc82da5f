"""Evidence as lines: what goes out comes back, and what is wrong is told and changes nothing."""

from __future__ import annotations

import json
import re

import pytest

from strangler_proxy.core.evidence_lines import Lines, head_line, sample_line, tally_lines
from strangler_proxy.core.verdict import Basis
from tests.ports.evidence_samples import NEW, NOW, OLD, key, sample, stratum, tally


def read(*lines: str, into: str | None = None) -> Lines:
    found = Lines(into=into)
    for line in lines:
        found.take(line)
    return found


def test_tallies_and_samples_come_back_as_they_went() -> None:
    first, second = tally(basis=OLD, list=stratum(5)), tally(list=stratum(3), one=stratum(2, 1, sample="s"))
    found = read(head_line("catalog", NOW), *tally_lines(first), *tally_lines(second), sample_line(sample(1)))
    assert found.tallies == {("catalog", OLD): first, ("catalog", NEW): second}
    assert (found.samples, found.flags) == ([sample(1)], {"catalog"})


def test_into_stands_in_for_the_flags_of_the_lines() -> None:
    found = read(head_line("", NOW), *tally_lines(tally(flag="")), into="catalog")
    assert list(found.tallies) == [("catalog", NEW)]


HEAD = head_line("catalog", NOW)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", 'not a JSON object with a "type"'),
        ("[1]", 'not a JSON object with a "type"'),
        ('"type"', 'not a JSON object with a "type"'),
        ("[" * 100_000, 'not a JSON object with a "type"'),
        ('{"type":"head","format":"other","version":1}', "other version 1 is not strangler-evidence 1"),
        ('{"type":"stranger"}', "unknown type 'stranger'"),
        ('{"type":"sample"}', "sample: KeyError"),
        ('{"type":"sample","sample":[]}', "sample: TypeError"),
        (
            '{"type":"tally","flag":"a","basis":{},"eligible":-1,"mirrored":0,"drops":{},"rule_uses":{}}',
            "a count is -1",
        ),
        ('{"type":"tally","flag":"a","basis":{"more":1},"eligible":1,"mirrored":0,"drops":{},"rule_uses":{}}', "tally"),
        ('{"type":"tally","flag":"a","basis":{},"eligible":true,"mirrored":0,"drops":{},"rule_uses":{}}', "a count"),
        ('{"type":"stratum","flag":"a","basis":{},"key":{},"tally":{}}', "stratum: TypeError"),
    ],
)
def test_malformed_lines_are_named(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read(HEAD, line)


def test_a_file_without_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="the first line is no head"):
        read(sample_line(sample(1)))


def test_counts_below_nothing_are_refused_in_strata_too() -> None:
    (_, line) = tally_lines(tally(list=stratum(5)))
    document = json.loads(line)
    document["tally"]["matched"] = -5
    with pytest.raises(ValueError, match="a count is -5"):
        read(HEAD, json.dumps(document))
    assert document["key"] == key("/list").document()
    assert Basis(**document["basis"]) == NEW
