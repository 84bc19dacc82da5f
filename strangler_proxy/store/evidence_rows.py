"""Evidence as rows: what the tables of a control database and of an SQLite file have in common.

Documents are JSON text in ASCII: bodies may hold NUL characters and lone surrogates, which neither database takes
otherwise. Names without a bound (paths, strata) are looked up by a digest, so that no index meets a long key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from strangler_proxy.core.errors import DeclarationError, UnknownName
from strangler_proxy.core.rule_findings import problems
from strangler_proxy.core.rule_form import read_rule, rule_document
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample, read_sample
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import StratumTally, Tally, read_stratum
from strangler_proxy.core.verdict import Basis

STRATA_AT_ONCE = 200
SAMPLES_AT_ONCE = 100
PRUNED_AT_ONCE = 2_000
MERGED_AT_ONCE = 8
"""Writers whose tallies are put together in one transaction."""
MERGES_AT_ONCE = 2
"""Such transactions of one pruning."""
RULE_ADDED = "shadow.rule_add"
RULE_EXPIRED = "shadow.rule_expire"
FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
"""Later than every sample."""

_WORDS = ("id", "path", "owner", "reason", "route", "key", "alias")

T = TypeVar("T")
Values = dict[str, Any]


def packed(document: object) -> str:
    """A JSON value as compact ASCII text."""
    return json.dumps(document, separators=(",", ":"))


def digest(text: str) -> str:
    """What a long text is looked up by (32 hex digits)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def batches(items: Iterable[T], size: int) -> list[list[T]]:
    """In lists of at most `size`.

    >>> batches("abcde", 2)
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    every = list(items)
    return [every[start : start + size] for start in range(0, len(every), size)]


def writer_values(writer: str, tally: Tally) -> Values:
    """Parameters for a writer's totals."""
    return {
        "writer": writer,
        "flag": tally.flag,
        **basis_values(tally.basis),
        "eligible": tally.eligible,
        "mirrored": tally.mirrored,
        "drops": packed(tally.drops),
        "rule_uses": packed(tally.rule_uses),
    }


def basis_values(basis: Basis) -> Values:
    """Parameters that name a basis."""
    return {
        "control_version": basis.control_version,
        "candidate_version": basis.candidate_version,
        "rules": basis.rules,
    }


def stratum_values(key: StratumKey, tally: StratumTally) -> Values:
    """Parameters for one stratum, but for the writer's number."""
    named = packed(key.document())
    return {"stratum": digest(named), "document": packed({"key": key.document(), "tally": tally.document()})}


def sample_values(sample: Sample) -> Values:
    """Parameters for one sample; `bytes` counts what it takes."""
    document = packed(sample.document())
    return {
        "id": sample.id,
        "flag": sample.flag,
        "at": sample.at,
        "bytes": len(document),
        "document": document,
    }


def path_values(sample: Sample) -> list[Values]:
    """Parameters for the paths of one sample."""
    return [{"sample": sample.id, "path": each} for each in sorted({digest(d.path) for d in sample.differences})]


def tallies_of(flag: str, writers: Sequence[Mapping[str, Any]], strata: Sequence[Mapping[str, Any]]) -> list[Tally]:
    """Merged tallies by basis, the last published first, of rows that are ordered so.

    `writers` have `number`, the basis and totals (JSON as text), `strata` have `number` and `document` (text).
    Raises DeclarationError for a row of another form.
    """
    merged: dict[Basis, Tally] = {}
    by_number: dict[Any, Tally] = {}

    def read() -> list[Tally]:
        for row in writers:
            basis = Basis(
                control_version=row["control_version"], candidate_version=row["candidate_version"], rules=row["rules"]
            )
            tally = merged.setdefault(basis, Tally(flag=flag, basis=basis))
            by_number[row["number"]] = tally
            tally.merge(
                Tally(
                    flag=flag,
                    basis=basis,
                    eligible=int(row["eligible"]),
                    mirrored=int(row["mirrored"]),
                    drops=json.loads(row["drops"]),
                    rule_uses=json.loads(row["rule_uses"]),
                )
            )
        for row in strata:
            document = json.loads(row["document"])
            by_number[row["number"]].stratum(StratumKey(**document["key"])).merge(read_stratum(document["tally"]))
        return list(merged.values())

    return readable(f"a tally of flag {flag!r}", read)


def gone_together(writers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Some writers that can become one: of one basis and `day`, so that age still counts. Empty where there are none.

    `writers` have ended; they have `number`, the basis, `day`, and are ordered as `tallies_of` wants them.
    """
    alike: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in writers:
        key = row["control_version"], row["candidate_version"], row["rules"], row["day"]
        alike.setdefault(key, []).append(row)
    return next((rows[:MERGED_AT_ONCE] for rows in alike.values() if len(rows) > 1), [])


def merged_values(
    flag: str, writers: Sequence[Mapping[str, Any]], strata: Sequence[Mapping[str, Any]]
) -> tuple[Values, list[Values]]:
    """Parameters for what becomes of writers of one basis: totals (with `published` of the last one), and strata.

    Raises DeclarationError for a row of another form.
    """
    (tally,) = tallies_of(flag, writers, strata)
    name = f"merged:{min(row['number'] for row in writers)}"
    totals = {**writer_values(name, tally), "published": max(row["published"] for row in writers)}
    return totals, [stratum_values(key, one) for key, one in tally.strata.items()]


def samples_of(documents: Iterable[str]) -> list[Sample]:
    """Samples of their documents. Raises DeclarationError for one of another form."""
    return readable("a sample", lambda: [read_sample(json.loads(each)) for each in documents])


def rule_of(document: str) -> Rule:
    """The rule of a document. Raises DeclarationError for one of another form."""
    return readable("a rule", lambda: read_rule(json.loads(document)))


def rule_text(rule: Rule) -> str:
    """A rule as it is kept."""
    return packed(rule_document(rule))


def check_rule(flag: str, rule: Rule, known: Iterable[Rule]) -> None:
    """Raises DeclarationError where a rule is impossible by itself, or its id is taken."""
    where = f'flag "{flag}": rule "{rule.id}"'
    said = [f"{where}: {why}" for why in problems(rule)]
    said += [f"{where}: {name} holds control characters" for name in _WORDS if not getattr(rule, name).isprintable()]
    if any(each.id == rule.id for each in known):
        said.append(f"{where} is there already: choose another id, or expire that one")
    if said:
        raise DeclarationError(said)


def unknown_rule(flag: str, rule_id: str) -> UnknownName:
    """The error for a rule that nobody added."""
    return UnknownName(
        f'flag "{flag}" has no rule "{rule_id}" that was added by hand (a declared one ends in its capability file)',
        next_command=f"strangler shadow rule list {flag}",
    )


def readable(what: str, read: Callable[[], T]) -> T:
    """What `read` returns; what a row of another form makes it raise becomes a DeclarationError that names it."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DeclarationError([f"{what} in the evidence cannot be read: {type(error).__name__}: {error}"]) from error


def moment(seconds: float) -> dt.datetime:
    """Unix seconds as UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
