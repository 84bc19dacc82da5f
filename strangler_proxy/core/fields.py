"""Fields of two answers compared: headers by value, lists by their members, cookies by attribute."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from strangler_proxy.core.decoding import charset
from strangler_proxy.core.difference import ABSENT, Kind, step
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.rules import RuleSet
from strangler_proxy.core.walk import Walk

NOT_COMPARED: Final = frozenset(
    [
        "date",
        "age",
        "server",
        "via",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "content-length",
        "trailer",
        "te",
        "upgrade",
        "content-encoding",
        "alt-svc",
        "x-request-id",
        "x-powered-by",
        "traceparent",
        "tracestate",
        "server-timing",
        "x-runtime",
        "x-response-time",
        "content-type",
        "set-cookie",
    ]
)
"""Left out unless a rule asks; Content-Encoding is undone, Content-Type and Set-Cookie are compared by meaning."""

_MEMBERS: Final = frozenset(
    [
        "vary",
        "allow",
        "cache-control",
        "accept-ranges",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-expose-headers",
        "content-language",
    ]
)
_CASELESS: Final = frozenset(["vary", "cache-control", "access-control-allow-headers", "access-control-expose-headers"])
_BY_MEANING: Final = frozenset({"content-type", "set-cookie"})
_COOKIE_ATTRIBUTES: Final = frozenset(
    ["expires", "max-age", "domain", "path", "secure", "httponly", "samesite", "partitioned", "priority"]
)


def walk_fields(walk: Walk, rules: RuleSet, control: Observation, candidate: Observation) -> None:
    """Note the differences of all fields that are compared."""
    ours, theirs = _by_name(control), _by_name(candidate)
    for name in ours | theirs:
        if name in _BY_MEANING or name.startswith("x-strangler-"):
            continue
        if name in NOT_COMPARED and not rules.compares_field(name):
            continue
        a, b = ours.get(name), theirs.get(name)
        if a == b:
            continue
        _note(walk, f"header.{step(name)}", _read(name, a), _read(name, b))
    _content_type(walk, control, candidate)
    _cookies(walk, control, candidate)


def _by_name(seen: Observation) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in seen.fields:
        found.setdefault(name, []).append(value)
    return found


def _read(name: str, values: list[str] | None) -> object:
    if values is None:
        return ABSENT
    joined = ", ".join(values)
    if name not in _MEMBERS:
        return joined
    members = {part.strip() for part in joined.split(",") if part.strip()}
    return ", ".join(sorted({part.lower() for part in members} if name in _CASELESS else members))


def _content_type(walk: Walk, control: Observation, candidate: Observation) -> None:
    a, b = _media(control), _media(candidate)
    if a != b:
        _note(walk, "header.content-type", a, b)


def _media(seen: Observation) -> object:
    value = seen.first("content-type")
    return _meaning(value) if value else ABSENT


@lru_cache(maxsize=256)
def _meaning(value: str) -> str:
    """A Content-Type, its parameters in order and its charset named, so that what means the same is equal."""
    media = value.partition(";")[0].strip().lower()
    parameters = sorted(part.strip().lower() for part in value.split(";")[1:] if part.strip())
    parameters = [part for part in parameters if not part.startswith("charset")]
    if media.startswith("text/") or media.endswith(("json", "xml")):
        parameters.append(f"charset={charset(value, b'')}")
    return "; ".join([media, *parameters])


def _cookies(walk: Walk, control: Observation, candidate: Observation) -> None:
    ours, theirs = _set_cookies(control), _set_cookies(candidate)
    for name in ours | theirs:
        a, b = ours.get(name), theirs.get(name)
        if a is None or b is None:
            _note(walk, f"cookie.{step(name)}", a or ABSENT, b or ABSENT)
            continue
        for attribute in a | b:
            x, y = a.get(attribute, ABSENT), b.get(attribute, ABSENT)
            if x != y:
                _note(walk, f"cookie.{step(name)}.{attribute}", x, y)


def _set_cookies(seen: Observation) -> dict[str, dict[str, object]]:
    """Cookies by name, the last of a name wins as it does in a browser; the value is the attribute `value`."""
    found: dict[str, dict[str, object]] = {}
    for line in seen.values("set-cookie"):
        pair, *rest = line.split(";")
        name, _, value = pair.partition("=")
        cookie: dict[str, object] = {"value": value.strip().strip('"')}
        for part in rest:
            key, _, said = part.strip().partition("=")
            key = key.lower()
            if key in _COOKIE_ATTRIBUTES:
                cookie[key] = said.strip().lstrip(".").lower() if key != "path" else said.strip()
        found[name.strip()] = cookie
    return found


def _note(walk: Walk, path: str, a: object, b: object) -> None:
    if a == b:
        return
    kind = Kind.MISSING if b is ABSENT else Kind.EXTRA if a is ABSENT else Kind.VALUE
    walk.note(path, "", kind, a, b)
