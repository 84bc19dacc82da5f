"""Why a request goes where it goes: each step of the precedence, and which of them decided.

The decision itself is `core.decision.decide`; this says what every step saw. A test holds that the first step that
applies is the one that `decide` names.
"""

from __future__ import annotations

from dataclasses import dataclass

from strangler_proxy.core.decision import Facts, Reason, decide, is_safe
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import percent
from strangler_proxy.core.stage import STAGE_TABLE, Origin, Serve, Stage
from strangler_proxy.core.table import CompiledRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Consideration:
    """One step: its name, whether it applies to this request, what it saw, and whether it decided."""

    name: str
    applies: bool
    says: str
    decided: bool = False


_WORDS = {
    Serve.MONOLITH: "monolith",
    Serve.EXTRACTED: "extracted",
    Serve.BY_WEIGHT: "either side, by weight",
}

_BY_REASON = {
    Reason.OWNER: "owner",
    Reason.KILLED: "kill switch",
    Reason.OVERRIDE: "override",
    Reason.DENIED: "deny list",
    Reason.ALLOWED: "allow list",
    Reason.OWN_WRITE: "read your writes",
    Reason.BUCKET: "bucket",
    Reason.STAGE: "stage",
}


def explain(compiled: CompiledRoute, facts: Facts) -> tuple[Consideration, ...]:
    """All steps in the order of their precedence; exactly one of them decided."""
    flag = compiled.flag
    decided = _BY_REASON[decide(compiled, facts).reason]
    if decided == "kill switch" and flag.owns_data and not is_safe(facts.method):
        decided = "owner"
    steps = (
        _owner(flag, facts),
        _retired(flag),
        _killed(flag, facts),
        _override(facts),
        _listed("deny list", flag.deny, facts, "never"),
        _listed("allow list", flag.allow, facts, "always"),
        _own_write(flag, facts),
        _bucket(flag, facts),
        _stage(flag, facts),
    )
    if flag.stage is Stage.RETIRED and decided in ("stage", "kill switch"):
        decided = "retired"
    return tuple(
        Consideration(name=step.name, applies=step.applies, says=step.says, decided=step.name == decided)
        for step in steps
    )


def _owner(flag: Flag, facts: Facts) -> Consideration:
    if not flag.owns_data:
        return Consideration(name="owner", applies=False, says="the flag owns no data")
    if is_safe(facts.method):
        return Consideration(name="owner", applies=False, says=f"{facts.method} is safe: any side may answer it")
    says = f"{facts.method} is unsafe: goes to the owner, {flag.owner.value} (epoch {flag.owner_epoch})"
    if facts.killed and flag.owner is Origin.EXTRACTED:
        says += "; killed, so it is answered 503 instead"
    elif flag.hold is not None:
        says += "; held while the cutover goes on"
    return Consideration(name="owner", applies=True, says=says)


def _retired(flag: Flag) -> Consideration:
    if flag.stage is Stage.RETIRED:
        return Consideration(name="retired", applies=True, says="the monolith's copy is dead: extracted, or 503")
    return Consideration(name="retired", applies=False, says=f"the stage is {flag.stage.value}")


def _killed(flag: Flag, facts: Facts) -> Consideration:
    if facts.killed:
        return Consideration(
            name="kill switch", applies=True, says=f'"{flag.key}" is killed: safe requests to monolith'
        )
    return Consideration(name="kill switch", applies=False, says="assumed off (it is local to each host)")


def _override(facts: Facts) -> Consideration:
    if facts.override is not None:
        return Consideration(name="override", applies=True, says=f"a trusted caller asks for {facts.override.value}")
    return Consideration(name="override", applies=False, says="none was sent")


def _listed(name: str, keys: frozenset[str], facts: Facts, word: str) -> Consideration:
    if facts.targeting_key in keys:
        return Consideration(name=name, applies=True, says=f'"{facts.targeting_key}" is {word} served by extracted')
    return Consideration(name=name, applies=False, says=f"{len(keys)} keys, this one is not among them")


def _own_write(flag: Flag, facts: Facts) -> Consideration:
    if facts.own_write and flag.owns_data:
        says = f"wrote lately, and the copy is not known to hold it: goes to the owner, {flag.owner.value}"
        return Consideration(name="read your writes", applies=True, says=says)
    return Consideration(name="read your writes", applies=False, says="no recent write of this subject is known")


def _bucket(flag: Flag, facts: Facts) -> Consideration:
    row = STAGE_TABLE[flag.stage]
    wanted = row.safe if is_safe(facts.method) else row.unsafe
    if wanted is not Serve.BY_WEIGHT:
        return Consideration(name="bucket", applies=False, says=f"{flag.stage.value} does not ask for it")
    serve, sign = (Origin.EXTRACTED, "<") if facts.bucket < flag.weight else (Origin.MONOLITH, ">=")
    says = f"bucket {facts.bucket} {sign} weight {flag.weight} ({percent(flag.weight)}): {serve.value}"
    return Consideration(name="bucket", applies=True, says=says)


def _stage(flag: Flag, facts: Facts) -> Consideration:
    row = STAGE_TABLE[flag.stage]
    wanted = row.safe if is_safe(facts.method) else row.unsafe
    kind = "safe" if is_safe(facts.method) else "unsafe"
    return Consideration(name="stage", applies=True, says=f"{flag.stage.value}: {kind} requests go to {_WORDS[wanted]}")
