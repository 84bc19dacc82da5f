"""The sections of a file that say where requests lead: `[clusters.NAME]` and `[routes.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from strangler_proxy.core.route import Access, Cluster, Endpoint, Predicate, Route, Timeouts
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.fields import Fields, substitute
from strangler_proxy.plan.policy_section import cluster_policies, route_policies

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_ACCESS = {access.value: access for access in Access}
_DEFAULT = Timeouts()


def clusters(document: Fields, environment: Mapping[str, str]) -> tuple[Cluster, ...]:
    """All `[clusters.NAME]` of a file."""
    return tuple(_cluster(name, fields, environment) for name, fields in document.tables("clusters", "cluster"))


def _cluster(name: str, fields: Fields, environment: Mapping[str, str]) -> Cluster:
    _check_name(name, fields)
    found = []
    for text in fields.texts("endpoints", None):
        try:
            resolved = substitute(text, environment)
        except KeyError as error:
            fields.problem("endpoints", f"environment variable {error.args[0]} is not set, and has no default")
            continue
        endpoint = parse_endpoint(resolved)
        if endpoint is None:
            shown = f'"{resolved}"' if resolved == text else f'"{text}" (now "{resolved}")'
            fields.problem("endpoints", f"endpoint {shown} is not HOST:PORT")
        elif endpoint in found:
            fields.problem("endpoints", f'endpoint "{endpoint}" is named twice')
        else:
            found.append(endpoint)
    if fields.has("endpoints") and fields.values["endpoints"] == []:
        fields.problem("endpoints", "has no endpoints")
    policies = cluster_policies(fields)
    fields.finish()
    return Cluster(name=name, endpoints=tuple(found), **policies)


def parse_endpoint(text: str) -> Endpoint | None:
    """`HOST:PORT` or `[IPV6]:PORT`; None where it is neither.

    >>> parse_endpoint("web:80"), parse_endpoint("http://web")
    (Endpoint(host='web', port=80), None)
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65_536:
        return None
    return Endpoint(host=match["v6"] or match["host"], port=int(match["port"]))


def routes(document: Fields, flag: str, defaults: Mapping[Origin, str]) -> tuple[Route, ...]:
    """All `[routes.NAME]` of a file, in its order. `defaults` are the clusters of routes that name none."""
    return tuple(_route(name, fields, flag, defaults) for name, fields in document.tables("routes", "route"))


def _route(name: str, fields: Fields, flag: str, defaults: Mapping[Origin, str]) -> Route:
    _check_name(name, fields)
    methods = fields.texts("methods")
    for method in methods:
        if not _METHOD.fullmatch(method):
            fields.problem("methods", f'method "{method}" is not one (methods are written in capital letters)')
    route = Route(
        name=name,
        flag=flag,
        path=fields.text("path"),
        clusters={origin: fields.text(origin.value, defaults.get(origin)) for origin in Origin},
        host=fields.text("host", "").lower(),
        methods=frozenset(methods),
        headers=_predicates(fields, "headers"),
        query=_predicates(fields, "query"),
        timeouts=_timeouts(fields.table("timeouts", f"{fields.what}, timeouts")),
        access=fields.choice("access", _ACCESS, Access.PUBLIC),
        retries=fields.whole("retries", 1, 0, 3),
        fallback=fields.flag("fallback", True),
        **route_policies(fields),
    )
    fields.finish()
    return route


def _predicates(fields: Fields, key: str) -> tuple[Predicate, ...]:
    """`{ NAME = "value" }` asks for that value, `{ NAME = true }` for presence."""
    found = []
    for name, value in fields.table(key, f"{fields.what}, {key}").values.items():
        if value is True or isinstance(value, str):
            found.append(Predicate(name=name, value=None if value is True else value))
        else:
            fields.problems.add((*fields.path, key, name), f"{fields.what}: {key}.{name} must be a text, or true")
    return tuple(found)


def _timeouts(fields: Fields) -> Timeouts:
    found = Timeouts(
        connect_s=fields.seconds("connect_s", _DEFAULT.connect_s),
        first_byte_s=fields.seconds("first_byte_s", _DEFAULT.first_byte_s),
        idle_s=fields.seconds("idle_s", _DEFAULT.idle_s),
        total_s=fields.seconds("total_s", _DEFAULT.total_s),
    )
    fields.finish()
    return found


def _check_name(name: str, fields: Fields) -> None:
    if not NAME.fullmatch(name):
        fields.problems.add(
            fields.path, f'{fields.what}: a name has letters, digits, "_", "-" and "." only, 63 at most'
        )
