"""The folder of capability files as one whole: each parsed, all compiled together, every problem at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.plan.capability_file import parse_default, parse_with_places
from strangler_proxy.plan.fields import Problems, variables

DEFAULT_FILE = "_default.toml"
MAX_FILE_BYTES = 1_000_000
_SUBJECT = re.compile(r'(route|cluster) "([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file as it was read: its name as people know it, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Parsed and consistent capability files. `default_cluster` is None where no `_default.toml` says one."""

    capabilities: tuple[Capability, ...]
    default_cluster: str | None


def read_files(paths: Sequence[Path]) -> tuple[SourceFile, ...]:
    """Read folders (all `*.toml` in them) and files (with the `_default.toml` beside them), in order of their names.

    Raises DeclarationError with every path that cannot be read.
    """
    problems: list[str] = []
    wanted: set[Path] = set()
    for path in paths:
        if path.is_dir():
            inside = set(path.glob("*.toml"))
            if not inside - {path / DEFAULT_FILE}:
                problems.append(f"{path}: no capability file (*.toml) in this folder")
            wanted |= inside
        else:
            wanted.add(path)
            beside = path.parent / DEFAULT_FILE
            if beside.is_file():
                wanted.add(beside)
    found = []
    for path in sorted(wanted):
        try:
            data = path.read_bytes()
            if len(data) > MAX_FILE_BYTES:
                problems.append(f"{path}: {len(data)} bytes are too many (at most {MAX_FILE_BYTES})")
            found.append(SourceFile(name=str(path), text=data.decode("utf-8")))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            problems.append(f"{path}:{line}: not UTF-8")
    if problems:
        raise DeclarationError(problems)
    return tuple(found)


def named_variables(files: Sequence[SourceFile]) -> frozenset[str]:
    """Environment variables that the files refer to: what `apply` sends along."""
    return frozenset().union(*(variables(file.text) for file in files))


def load_plans(files: Sequence[SourceFile], environment: Mapping[str, str]) -> Plans:
    """Parse all files and compile what they declare together. Raises DeclarationError with every problem."""
    problems: list[str] = []
    capabilities: list[Capability] = []
    sources: dict[str, Problems] = {}
    defaults: Problems | None = None
    default: str | None = None
    shared: tuple[Cluster, ...] = ()
    for file in files:
        try:
            if Path(file.name).name == DEFAULT_FILE:
                default, shared, defaults = parse_default(file.text, file.name, environment)
            else:
                capability, places = parse_with_places(file.text, file.name, environment)
                if capability.key in sources:
                    problems.append(f'{file.name}:1: flag "{capability.key}" has two files')
                capabilities.append(capability)
                sources[capability.key] = places
        except DeclarationError as error:
            problems += error.problems
    if not problems:
        problems = _twice(capabilities, shared, sources)
    if not problems:
        problems = _compile(capabilities, shared, default, sources, defaults)
    if problems:
        raise DeclarationError(problems)
    return Plans(
        capabilities=tuple(_with_shared(capability, shared, default) for capability in capabilities),
        default_cluster=default,
    )


def _with_shared(capability: Capability, shared: tuple[Cluster, ...], default: str | None) -> Capability:
    """The capability with the shared clusters that its routes (or the default) lead to."""
    used = {name for route in capability.routes for name in route.clusters.values()} | {default}
    return dataclasses.replace(
        capability, clusters=capability.clusters + tuple(cluster for cluster in shared if cluster.name in used)
    )


def _twice(capabilities: list[Capability], shared: tuple[Cluster, ...], sources: Mapping[str, Problems]) -> list[str]:
    """Names that two files declare."""
    problems: list[str] = []
    first: dict[tuple[str, str], str] = {("cluster", cluster.name): DEFAULT_FILE for cluster in shared}
    for capability in capabilities:
        places = sources[capability.key]
        names = [("cluster", cluster.name) for cluster in capability.clusters]
        names += [("route", route.name) for route in capability.routes]
        for kind, name in names:
            if (kind, name) in first:
                line = places.line((f"{kind}s", name))
                problems.append(
                    f'{places.file_name}:{line}: {kind} "{name}" is declared in {first[kind, name]} already'
                )
            first.setdefault((kind, name), places.file_name)
    return problems


def _compile(
    capabilities: list[Capability],
    shared: tuple[Cluster, ...],
    default: str | None,
    sources: Mapping[str, Problems],
    defaults: Problems | None,
) -> list[str]:
    """Problems of the whole that compiling finds, with the places of the routes and clusters that they name."""
    clusters = (*shared, *(cluster for capability in capabilities for cluster in capability.clusters))
    spare = Cluster(name="", endpoints=(Endpoint(host="-", port=1),))
    try:
        RoutingTable.compile(
            revision=0,
            flags=[Flag(key=c.key, stage=Stage.MONOLITH, owns_data=c.owns_data) for c in capabilities],
            routes=[route for capability in capabilities for route in capability.routes],
            clusters=clusters if default is not None else (*clusters, spare),
            default_cluster=spare.name if default is None else default,
        )
    except DeclarationError as error:
        owners = {("route", route.name): sources[c.key] for c in capabilities for route in c.routes}
        owners |= {("cluster", cluster.name): sources[c.key] for c in capabilities for cluster in c.clusters}
        return [_placed(problem, owners, defaults) for problem in error.problems]
    return []


def _placed(problem: str, owners: Mapping[tuple[str, str], Problems], defaults: Problems | None) -> str:
    match = _SUBJECT.match(problem)
    if match is not None and (places := owners.get((match[1], match[2]))) is not None:
        return f"{places.file_name}:{places.line((f'{match[1]}s', match[2]))}: {problem}"
    if defaults is not None:
        return f"{defaults.file_name}:{defaults.line(('default', 'cluster'))}: {problem}"
    return problem
