"""The sections of a file that say how pairs are judged: `[[compare]]` and `[evidence]`."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.judging import COVERAGE, FRESH_S, Judging
from strangler_proxy.core.rule_findings import Trouble, findings, problems
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.verdict import Demands
from strangler_proxy.plan.fields import Fields
from strangler_proxy.plan.route_section import NAME

_KINDS: Final = {kind.value: kind for kind in Kind}
_RULES: Final = {kind.value: kind for kind in RuleKind}
_DEFAULT: Final = Demands()
_NEVER: Final = dt.date(1970, 1, 1)
_HOUR_S: Final = 3_600.0


def judging(document: Fields, routes: Sequence[str]) -> Judging:
    """What a file declares about judging. `routes` are the names of its routes."""
    rules = _rules(document, routes)
    fields = document.table("evidence", "evidence")
    demands = _demands(fields, _DEFAULT)
    found = Judging(
        rules=rules,
        required=fields.flag("required", False),
        fresh_s=_hours(fields, "fresh_hours", FRESH_S),
        coverage=_share(fields, "coverage", COVERAGE),
        demands=demands,
        routes={name: _route_demands(name, one, routes, demands) for name, one in fields.tables("routes", "evidence")},
    )
    fields.finish()
    return found


def _rules(document: Fields, routes: Sequence[str]) -> tuple[Rule, ...]:
    found: list[Rule] = []
    places: dict[str, Fields] = {}
    for fields in document.list_of_tables("compare", "compare rule"):
        rule = _rule(fields, routes)
        if rule.id in places:
            fields.problem("id", "the id stands for another rule already")
        elif rule.id:
            places[rule.id] = fields
            found.append(rule)
    for each in findings(found, today=_NEVER, uses={}, compared=0):
        if each.trouble is Trouble.CONTRADICTS:
            places[each.rule].problem("path", each.detail)
    return tuple(found)


def _rule(fields: Fields, routes: Sequence[str]) -> Rule:
    name = fields.text("id")
    fields.what = f'compare rule "{name}"'
    if name and not NAME.fullmatch(name):
        fields.problem("id", 'an id has letters, digits, "_", "-" and "." only, 63 at most')
    rule = Rule(
        id=name,
        kind=fields.choice("rule", _RULES),
        path=fields.text("path"),
        owner=fields.text("owner"),
        reason=fields.text("reason"),
        expires_on=_date(fields, "expires_on"),
        route=fields.text("route", ""),
        kinds=frozenset(_kinds(fields)),
        absolute=_decimal(fields, "absolute"),
        relative=_decimal(fields, "relative"),
        scale=fields.whole("scale", 0, 0, 30) if fields.has("scale") else None,
        skew_s=fields.seconds("skew_s", 1.0) if fields.has("skew_s") else None,
        key=fields.text("key", ""),
        alias=fields.text("alias", ""),
    )
    _check_route(fields, rule.route, routes, "route")
    for text in ("path", "owner", "reason", "route", "key", "alias"):
        if not getattr(rule, text).isprintable():
            fields.problem(text, f"{text} holds control characters")
    if fields.has("rule"):
        for why in problems(rule):
            if not why.startswith("it has no "):
                fields.problem("rule", why)
    fields.finish()
    return rule


def _check_route(fields: Fields, name: str, routes: Sequence[str], key: str) -> None:
    if not name or name.startswith("/") or name in routes:
        return
    close = difflib.get_close_matches(name, routes, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    fields.problem(key, f'there is no route "{name}" in this file{hint} (a path template begins with "/")')


def _kinds(fields: Fields) -> list[Kind]:
    found = []
    for word in fields.texts("kinds"):
        if word in _KINDS:
            found.append(_KINDS[word])
        else:
            fields.problem("kinds", f'kinds names "{word}", which is none of {", ".join(_KINDS)}')
    return found


def _date(fields: Fields, key: str) -> dt.date:
    """A TOML date, or the same as text."""
    value = fields.values.get(key)
    if not fields.has(key):
        fields.problem(key, f'"{key}" is missing: no rule is for ever')
    elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    else:
        try:
            return dt.date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            fields.problem(key, f"{key} {value} is not a date (2027-03-31)")
    return _NEVER


def _decimal(fields: Fields, key: str) -> Decimal | None:
    """A number, or one as text, so that 0.1 is what was written."""
    if not fields.has(key):
        return None
    value = fields.values[key]
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidOperation
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal("NaN")
    if found.is_finite():
        return found
    fields.problem(key, f"{key} {value} is not a number")
    return Decimal(0)


def _demands(fields: Fields, default: Demands) -> Demands:
    limit = _share(fields, "limit", default.limit)
    if limit <= 0:
        fields.problem("limit", "limit is 0: no finite evidence can show that; give a share above it")
        limit = default.limit
    return Demands(
        limit=limit,
        alpha=default.alpha,
        min_pairs=fields.whole("pairs", default.min_pairs, 1, 10_000_000),
        min_seconds=_hours(fields, "hours", default.min_seconds),
    )


def _route_demands(name: str, fields: Fields, routes: Sequence[str], default: Demands) -> Demands:
    if name not in routes:
        fields.problems.add(fields.path, f'{fields.what}: there is no route "{name}" in this file')
    found = _demands(fields, default)
    fields.finish()
    return found


def _hours(fields: Fields, key: str, default_s: float) -> float:
    if not fields.has(key):
        return default_s
    value = fields.values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 8_760:
        fields.problem(key, f"{key} {value} is not a number of hours, 0..8760")
        return default_s
    return float(value) * _HOUR_S


def _share(fields: Fields, key: str, default: float) -> float:
    """`0.001` or `"0.1%"`."""
    if not fields.has(key):
        return default
    value = fields.values[key]
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            found = float(value.strip().removesuffix("%")) / 100
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        else:
            found = float(value)
    except ValueError:
        found = -1.0
    if 0 <= found <= 1:
        return found
    fields.problem(key, f'{key} {value} is not a share (0.001 or "0.1%")')
    return default
