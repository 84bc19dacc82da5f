"""The gate before a flip: does the evidence of a flag allow to send more to extracted?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from strangler_proxy.core.flip import Gate
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.report import Report
from strangler_proxy.core.tally import Tally
from strangler_proxy.core.verdict import Verdict

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a flag's evidence amounts to now. `verdict` is None where nothing was ever mirrored.

    `age_s`: since the last comparison on the fresh basis, None where there is none. `mismatched`, `inconclusive` and
    `unseen` name strata. `unproven`: requests that were not mirrored, because the candidate captures no effects.
    """

    verdict: Verdict | None = None
    compared: int = 0
    eligible: int = 0
    coverage: float = 0.0
    age_s: float | None = None
    mismatched: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    unproven: int = 0
    drops: dict[str, int] = field(default_factory=dict)


def standing(report: Report, tallies: Sequence[Tally], now: dt.datetime) -> Standing:
    """The standing of a report and the tallies that it was made of (the fresh one first)."""
    if not tallies:
        return Standing()
    last = max((one.last_at for one in tallies[0].strata.values()), default=0.0)
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for each in report.strata:
        by_verdict[each.judgement.verdict].append(str(each.key))
    return Standing(
        verdict=report.verdict,
        compared=report.coverage.compared,
        eligible=report.coverage.eligible,
        coverage=report.coverage.share,
        age_s=max(0.0, now.timestamp() - last) if last else None,
        mismatched=tuple(by_verdict[Verdict.MISMATCHED]),
        inconclusive=tuple(by_verdict[Verdict.INCONCLUSIVE]),
        unseen=tuple(str(each.key) for each in report.unseen),
        unproven=report.drops.get("no_proof", 0),
        drops=dict(report.drops),
    )


def evidence_gates(judging: Judging, found: Standing) -> tuple[Gate, ...]:
    """The conditions on evidence, met or not; all are looked at."""
    if found.verdict is None:
        return (Gate(met=False, says="evidence is required, and nothing was ever mirrored and compared"),)
    fresh_h = judging.fresh_s / 3_600
    old = (
        "nothing was compared with this code"
        if found.age_s is None
        else f"the last comparison is {_age(found.age_s)} old"
    )
    return (
        Gate(met=found.verdict is Verdict.MATCHED, says=_verdict_words(found)),
        Gate(
            met=found.age_s is not None and found.age_s <= judging.fresh_s,
            says=f"{old}, needed is less than {fresh_h:g} h",
        ),
        Gate(
            met=found.coverage >= judging.coverage,
            says=f"{found.coverage:.2%} of {found.eligible} eligible requests were compared, "
            f"needed are {judging.coverage:.2%}",
        ),
    )


def _verdict_words(found: Standing) -> str:
    said = f"evidence says {found.verdict.value if found.verdict else 'nothing'}, needed is matched"
    for what, strata in (("mismatched", found.mismatched), ("lacking evidence", found.inconclusive),
                         ("never compared", found.unseen)):  # fmt: skip
        if strata:
            more = f" and {len(strata) - _NAMED} more" if len(strata) > _NAMED else ""
            said += f"; {what}: {', '.join(strata[:_NAMED])}{more}"
    return said


def _age(seconds: float) -> str:
    return f"{seconds / 3_600:.1f} h" if seconds >= 3_600 else f"{seconds / 60:.0f} min"
