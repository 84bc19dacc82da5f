"""One capability file: text in, a Capability out, or every problem at once.

Specified in docs/reference/capability-file.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.route import Cluster
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan import compare_section, data_section, route_section
from strangler_proxy.plan.fields import Fields, Problems
from strangler_proxy.plan.policy_section import sample

RESERVED = "all"

_SYNTAX = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.S)


def parse_capability(text: str, file_name: str, environment: Mapping[str, str]) -> Capability:
    """Read one `KEY.toml`. `environment` gives the values of `${NAME}` in endpoints.

    Raises DeclarationError with every problem, each `FILE:LINE: what is wrong`. Names that other files declare
    (clusters, routes that match the same requests) are not judged here but in `load_plans`.
    """
    return parse_with_places(text, file_name, environment)[0]


def parse_with_places(text: str, file_name: str, environment: Mapping[str, str]) -> tuple[Capability, Problems]:
    """The same, with the places of its keys, so that later problems can be shown where they arise."""
    document = document_of(text, file_name)
    key = PurePath(file_name).stem
    if not route_section.NAME.fullmatch(key):
        document.problems.add(
            (), f'the file\'s name is the flag\'s key, and "{key}" is not one (letters, digits, "_-.")'
        )
    if key == RESERVED:
        document.problems.add(
            (), f'a flag cannot be called "{RESERVED}": `strangler kill {RESERVED}` means all of them'
        )
    head = document.table("capability", "capability")
    defaults = {origin: head.text(origin.value, "") for origin in Origin if head.has(origin.value)}
    routes = route_section.routes(document, key, defaults)
    capability = Capability(
        key=key,
        file_name=PurePath(file_name).name,
        file_text=text,
        routes=routes,
        clusters=route_section.clusters(document, environment),
        salt=head.text("salt", key),
        manifest=data_section.manifest(document, key),
        allow=frozenset(head.texts("allow")),
        deny=frozenset(head.texts("deny")),
        fallback_safe=head.flag("fallback_safe", True),
        mirror_sample=sample(head),
        judging=compare_section.judging(document, [route.name for route in routes]),
    )
    if head.text("key", key) != key:
        head.problem("key", f'key "{head.values["key"]}" is not the file\'s name "{key}"')
    for route in capability.routes:
        if route.idempotency_key and (capability.manifest is None or capability.manifest.idempotency_table is None):
            document.problems.add(
                ("routes", route.name, "idempotency_key"),
                f'route "{route.name}": idempotency_key needs [data] with an idempotency_table: '
                "both sides have to keep the keys in one table that moves",
            )
    for both in sorted(capability.allow & capability.deny):
        head.problem("deny", f'"{both}" is on the allow list and on the deny list')
    if not document.has("routes") or not document.values["routes"]:
        document.problems.add((), "no [routes.NAME]: a capability has at least one route")
    head.finish()
    document.finish()
    if document.problems:
        raise DeclarationError(document.problems.sentences())
    return capability, document.problems


def parse_default(
    text: str, file_name: str, environment: Mapping[str, str]
) -> tuple[str, tuple[Cluster, ...], Problems]:
    """Read `_default.toml`: the name of the default cluster, and clusters that several capabilities use."""
    document = document_of(text, file_name)
    fields = document.table("default", "default", required=True)
    name = fields.text("cluster") if document.has("default") else ""
    shared = route_section.clusters(document, environment)
    fields.finish()
    document.finish()
    if document.problems:
        raise DeclarationError(document.problems.sentences())
    return name, shared, document.problems


def document_of(text: str, file_name: str) -> Fields:
    """The document as fields. Raises DeclarationError with the place of a syntax error."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX.fullmatch(str(error))
        what = match["what"] if match else str(error)
        line = (match["line"] if match else None) or str(text.rstrip("\n").count("\n") + 1)
        column = f", column {match['column']}" if match and match["column"] else ""
        raise DeclarationError([f"{file_name}:{line}: not TOML: {what[:1].lower()}{what[1:]}{column}"]) from None
    problems = Problems(file_name, text)
    return Fields(values, (), "file", problems)
