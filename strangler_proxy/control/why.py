"""The verb `why`: what a proxy would do with a request, and which step of the precedence decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from strangler_proxy.core.bucketing import bucket
from strangler_proxy.core.decision import Decision, Facts, decide
from strangler_proxy.core.errors import MalformedTarget, UnknownName
from strangler_proxy.core.explain import Consideration, explain
from strangler_proxy.core.flip import percent
from strangler_proxy.core.paths import host_name, query_fields, read_target
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import CompiledRoute, RoutingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as a person describes it. `user` is the targeting key; None: anybody, so a bucket is not known."""

    method: str
    url: str
    user: str | None = None
    headers: Mapping[str, str]
    override: Origin | None = None
    killed: bool = False
    own_write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Where it goes and why. `decision` is None where no route matches (the default cluster) or it is refused.

    `bucket` None: no targeting key was given; then the decision is the one for a bucket that the weight leaves out.
    """

    route: CompiledRoute | None
    decision: Decision | None
    considerations: tuple[Consideration, ...] = ()
    bucket: int | None = None
    path: str = ""
    refused: str = ""
    refused_status: int = 0


def why(table: RoutingTable, asked: Asked) -> Explained:
    """Decide a request the way a proxy does. Raises UnknownName for a text that is no URL."""
    parts = urlsplit(asked.url)
    headers = {name.lower(): value for name, value in asked.headers.items()}
    host = parts.netloc or headers.get("host", "")
    if not parts.path.startswith("/") and parts.path:
        raise UnknownName(
            f'"{asked.url}" is neither a path nor a URL', next_command=f"strangler why {asked.method} /{parts.path}"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        sent = read_target(asked.method.encode(), target.encode(), host.encode())
    except MalformedTarget as error:
        return Explained(route=None, decision=None, refused=error.message, refused_status=error.status)
    found = table.match(asked.method, host_name(host.encode()), sent.path, headers, query_fields(sent.query))
    if found is None:
        return Explained(route=None, decision=None, path=sent.path)
    place = None if asked.user is None else bucket(found.flag.salt or found.flag.key, asked.user)
    facts = Facts(
        method=asked.method,
        bucket=9_999 if place is None else place,
        targeting_key=asked.user or "",
        killed=asked.killed,
        override=asked.override,
        own_write=asked.own_write,
    )
    return Explained(
        route=found,
        decision=decide(found, facts),
        considerations=tuple(_named(step, found, place) for step in explain(found, facts)),
        bucket=place,
        path=sent.path,
    )


def _named(step: Consideration, found: CompiledRoute, place: int | None) -> Consideration:
    """Say that nobody was named where a bucket would count."""
    if step.name != "bucket" or not step.applies or place is not None:
        return step
    share = percent(found.flag.weight)
    return dataclasses.replace(step, says=f"{share} of all targeting keys are served by extracted; none was given")
