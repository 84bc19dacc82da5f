"""Answers as they came, as observations that can be compared."""

from __future__ import annotations

from strangler_proxy.core.document import NotJson, read_json
from strangler_proxy.core.observation import Effect, Observation, answered, failed
from strangler_proxy.core.pair import Answer
from strangler_proxy.core.shadow_wire import EffectsTooLarge, effects_text
from strangler_proxy.core.stage import Origin

VERSION_CHARS = 64


def observed(answer: Answer, origin: Origin, code_version: str) -> tuple[Observation, str]:
    """One side's answer, frozen; and why its effects cannot be read, empty where nothing is wrong with them.

    The proof of the effects was checked by the proxy, which alone has the keys.
    """
    if answer.failure is not None:
        seen = failed(origin=origin, failure=answer.failure, duration_ms=answer.duration_ms, code_version=code_version)
        return seen, ""
    effects, problem = _effects(answer.effects)
    seen = answered(
        origin=origin,
        status=answer.status,
        fields=answer.fields,
        body=answer.body,
        body_bytes=answer.body_bytes,
        truncated=answer.truncated,
        duration_ms=answer.duration_ms,
        effects=effects,
        code_version=code_version,
    )
    return seen, problem


def version_of(answer: Answer, header: str) -> str:
    """What an answer says of its side's code; empty where it says nothing."""
    if answer.code_version:
        return answer.code_version[:VERSION_CHARS]
    if header and answer.failure is None:
        wanted = header.encode("latin-1", "replace")
        for name, value in answer.fields:
            if len(name) == len(wanted) and name.lower() == wanted:
                return value.decode("latin-1").strip()[:VERSION_CHARS]
    return ""


def _effects(value: bytes) -> tuple[tuple[Effect, ...] | None, str]:
    if not value:
        return None, ""
    try:
        listed, _ = read_json(effects_text([value.decode("latin-1")]))
        return tuple(Effect(kind=str(each["kind"]), detail=each.get("detail")) for each in listed), ""
    except EffectsTooLarge:
        return None, "effects are too many or too large to be compared"
    except (ValueError, NotJson, RecursionError, TypeError, KeyError, AttributeError):
        return None, "effects cannot be read"
