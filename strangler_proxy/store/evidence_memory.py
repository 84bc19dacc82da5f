"""EvidenceBook and RuleBook in memory: the twin of the real ones; nothing survives the process."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from strangler_proxy.core.evidence import Bounds
from strangler_proxy.core.rule_form import rule_document
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import StratumTally, Tally
from strangler_proxy.core.verdict import Basis
from strangler_proxy.store.evidence_rows import RULE_ADDED, RULE_EXPIRED, check_rule, sample_values, unknown_rule

Clock = Callable[[], dt.datetime]


class Recorder(Protocol):
    """Appends one audit entry about a rule."""

    def __call__(
        self,
        *,
        actor: str,
        verb: str,
        subject: str,
        reason: str,
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        """Called with the change."""
        ...


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _nothing_declared(_flag: str) -> Sequence[Rule]:
    return ()


def _unrecorded(**_change: object) -> None:
    return None


@dataclasses.dataclass(slots=True)
class _Published:
    tally: Tally
    at: dt.datetime
    turn: int


class MemoryEvidence:
    """Evidence of one process. `declared` gives the declared rules of a flag and raises UnknownName."""

    def __init__(
        self,
        *,
        clock: Clock = _now,
        declared: Callable[[str], Sequence[Rule]] = _nothing_declared,
        record: Recorder = _unrecorded,
    ) -> None:
        self._clock = clock
        self._declared = declared
        self._record = record
        self._turn = 0
        self._published: dict[tuple[str, str, Basis], _Published] = {}
        self._samples: dict[str, Sample] = {}
        self._rules: dict[str, dict[str, Rule]] = {}

    async def __aenter__(self) -> MemoryEvidence:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def publish(self, writer: str, tally: Tally) -> None:
        """As the real one."""
        self._turn += 1
        said = self._published.setdefault(
            (writer, tally.flag, tally.basis),
            _Published(Tally(flag=tally.flag, basis=tally.basis), self._clock(), self._turn),
        )
        strata: dict[StratumKey, StratumTally] = {**said.tally.strata, **copy.deepcopy(tally.strata)}
        said.tally = dataclasses.replace(tally, strata=strata, drops=dict(tally.drops), rule_uses=dict(tally.rule_uses))
        said.at, said.turn = self._clock(), self._turn

    async def keep(self, samples: Sequence[Sample], *, instead_of: Sequence[str] = ()) -> None:
        """As the real one."""
        for gone in instead_of:
            self._samples.pop(gone, None)
        self._samples.update({sample.id: sample for sample in samples})

    async def tallies(self, flag: str, *, since: dt.datetime | None = None) -> Sequence[Tally]:
        """As the real one."""
        found = [each for (_, name, _), each in self._published.items() if name == flag]
        merged: dict[Basis, Tally] = {}
        for each in sorted(found, key=lambda one: -one.turn):
            if since is None or each.at >= since:
                basis = each.tally.basis
                merged.setdefault(basis, Tally(flag=flag, basis=basis)).merge(copy.deepcopy(each.tally))
        return list(merged.values())

    async def samples(
        self,
        flag: str,
        *,
        limit: int,
        path: str = "",
        sample_id: str = "",
        before: tuple[dt.datetime, str] | None = None,
    ) -> Sequence[Sample]:
        """As the real one."""
        found = [
            sample
            for sample in self._samples.values()
            if (not flag or sample.flag == flag)
            and (not sample_id or sample.id == sample_id)
            and (not path or any(each.path == path for each in sample.differences))
            and (before is None or _newest_first(sample) > (-before[0].timestamp(), before[1]))
        ]
        return sorted(found, key=_newest_first)[:limit]

    async def prune(self, flag: str, bounds: Bounds, now: dt.datetime) -> int:
        """As the real one."""
        oldest = now - dt.timedelta(days=bounds.days)
        for key, said in list(self._published.items()):
            if key[1] == flag and said.at < oldest:
                del self._published[key]
        gone, total = 0, 0
        ours = sorted((each for each in self._samples.values() if each.flag == flag), key=_newest_first)
        for number, sample in enumerate(ours, start=1):
            total += int(sample_values(sample)["bytes"])
            if sample.at < oldest or number > bounds.samples or total > bounds.sample_bytes:
                del self._samples[sample.id]
                gone += 1
        return gone

    async def flags(self) -> Sequence[str]:
        """Flags of which there is evidence, by name."""
        return sorted({name for _, name, _ in self._published} | {each.flag for each in self._samples.values()})

    async def rules(self, flag: str) -> Sequence[Rule]:
        """Declared ones first, then those added by hand, by id."""
        added = self._rules.get(flag, {})
        return [*self._declared(flag), *(added[key] for key in sorted(added))]

    async def add_rule(self, flag: str, rule: Rule, *, by: str) -> None:
        """As the real one."""
        check_rule(flag, rule, await self.rules(flag))
        self._rules.setdefault(flag, {})[rule.id] = rule
        self._record(actor=by, verb=RULE_ADDED, subject=flag, reason=rule.reason, before={}, after=rule_document(rule))

    async def expire_rule(self, flag: str, rule_id: str, on: dt.date, *, by: str, reason: str) -> None:
        """As the real one."""
        self._declared(flag)
        known = self._rules.get(flag, {}).get(rule_id)
        if known is None:
            raise unknown_rule(flag, rule_id)
        after = dataclasses.replace(known, expires_on=on)
        self._rules[flag][rule_id] = after
        self._record(
            actor=by,
            verb=RULE_EXPIRED,
            subject=flag,
            reason=reason,
            before=rule_document(known),
            after=rule_document(after),
        )

    async def record(self, flag: str, verb: str, detail: Mapping[str, object], *, by: str, reason: str) -> None:
        """As the real one."""
        self._declared(flag)
        self._record(actor=by, verb=verb, subject=flag, reason=reason, before={}, after=dict(detail))


def _newest_first(sample: Sample) -> tuple[float, str]:
    return -sample.at.timestamp(), sample.id
