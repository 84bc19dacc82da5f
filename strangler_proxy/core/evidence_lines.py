"""Evidence as lines of JSON, for export and import: a head, tallies, their strata one by one, and samples.

Nothing in it is secret beyond what samples are: redacted. A line never depends on a later one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from strangler_proxy.core.sample import Sample, read_sample
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import StratumTally, Tally, read_stratum
from strangler_proxy.core.verdict import Basis

FORMAT: Final = "strangler-evidence"
VERSION: Final = 1
LONGEST_LINE: Final = 8 * 1024 * 1024
_TOTALS: Final = ("eligible", "mirrored", "drops", "rule_uses")


def head_line(flag: str, at: dt.datetime) -> str:
    """The first line of a file."""
    return _line("head", format=FORMAT, version=VERSION, flag=flag, exported_at=at.astimezone(dt.UTC).isoformat())


def tally_lines(tally: Tally) -> Iterator[str]:
    """A tally's totals, then each of its strata."""
    basis = asdict(tally.basis)
    yield _line("tally", flag=tally.flag, basis=basis, **{name: getattr(tally, name) for name in _TOTALS})
    for key, stratum in tally.strata.items():
        yield _line("stratum", flag=tally.flag, basis=basis, key=key.document(), tally=stratum.document())


def sample_line(sample: Sample) -> str:
    """One sample."""
    return _line("sample", sample=sample.document())


def _line(kind: str, **values: object) -> str:
    return json.dumps({"type": kind, **values}, separators=(",", ":"))


@dataclass(slots=True)
class Lines:
    """What lines have said so far. `into` stands in for their flags, where it is not None.

    Tallies add up by basis; samples wait in `samples` until somebody takes them.
    """

    into: str | None = None
    tallies: dict[tuple[str, Basis], Tally] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    _begun: bool = False

    def take(self, line: str) -> None:
        """Read one line. Raises ValueError with what is wrong."""
        if len(line) > LONGEST_LINE:
            raise ValueError(f"the line is longer than {LONGEST_LINE} characters")
        try:
            document = json.loads(line)
            kind = document["type"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError('not a JSON object with a "type"') from None
        if not self._begun and kind != "head":
            raise ValueError(f"the first line is no head of a {FORMAT} file")
        try:
            self._read(kind, document)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{kind}: {type(error).__name__}: {error}") from None

    def _read(self, kind: str, document: dict[str, Any]) -> None:
        if kind == "head":
            if (document["format"], document["version"]) != (FORMAT, VERSION):
                raise ValueError(f"{document['format']} version {document['version']} is not {FORMAT} {VERSION}")
            self._begun = True
        elif kind == "tally":
            totals = {name: document[name] for name in _TOTALS}
            _check_counts([totals["eligible"], totals["mirrored"], *totals["drops"].values()])
            self._tally(document).merge(Tally(flag="", basis=Basis(), **totals))
        elif kind == "stratum":
            self._tally(document).stratum(StratumKey(**document["key"])).merge(_stratum(document["tally"]))
        elif kind == "sample":
            sample = read_sample(document["sample"])
            self.flags.add(sample.flag)
            self.samples.append(sample)
        else:
            raise ValueError(f"unknown type {kind!r}")

    def _tally(self, document: dict[str, Any]) -> Tally:
        flag = str(document["flag"]) if self.into is None else self.into
        self.flags.add(str(document["flag"]))
        basis = Basis(**{name: str(value) for name, value in document["basis"].items()})
        return self.tallies.setdefault((flag, basis), Tally(flag=flag, basis=basis))


def _stratum(document: dict[str, Any]) -> StratumTally:
    read = read_stratum(document)
    _check_counts([read.matched, read.mismatched, read.ignored, read.inconclusive, read.confirmed, read.requests])
    return read


def _check_counts(counts: Iterable[object]) -> None:
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"a count is {count!r}, and not a whole number from 0")
