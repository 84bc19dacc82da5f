"""Rules as JSON documents and back, as stores, the control plane and exports write them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.rules import Rule, RuleKind

_WORDS: Final = ("id", "path", "owner", "reason", "route", "key", "alias")


def rule_document(rule: Rule) -> dict[str, Any]:
    """A rule as JSON; decimals as text, so that 0.1 stays 0.1. `read_rule` reads it."""
    return {
        **{name: getattr(rule, name) for name in _WORDS},
        "kind": rule.kind.value,
        "expires_on": rule.expires_on.isoformat(),
        "kinds": sorted(kind.value for kind in rule.kinds),
        "absolute": None if rule.absolute is None else str(rule.absolute),
        "relative": None if rule.relative is None else str(rule.relative),
        "scale": rule.scale,
        "skew_s": rule.skew_s,
    }


def read_rule(document: Mapping[str, Any]) -> Rule:
    """A rule from its JSON. Raises KeyError, TypeError or ValueError for another form.

    >>> rule = Rule(id="r", kind=RuleKind.IGNORE, path="at", owner="o", reason="w", expires_on=dt.date(2027, 1, 1))
    >>> read_rule(rule_document(rule)) == rule
    True
    """
    scale, skew = document["scale"], document["skew_s"]
    return Rule(
        **{name: str(document[name]) for name in _WORDS},
        kind=RuleKind(document["kind"]),
        expires_on=dt.date.fromisoformat(document["expires_on"]),
        kinds=frozenset(Kind(kind) for kind in document["kinds"]),
        absolute=_decimal(document["absolute"]),
        relative=_decimal(document["relative"]),
        scale=None if scale is None else int(scale),
        skew_s=None if skew is None else float(skew),
    )


def _decimal(said: str | None) -> Decimal | None:
    if said is None:
        return None
    try:
        return Decimal(said)
    except InvalidOperation:
        raise ValueError(f"{said!r} is not a decimal number") from None
