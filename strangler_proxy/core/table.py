"""The routing table: declared routes compiled into an immutable tree of path segments.

A lookup walks the path once, one dict probe a segment; it neither allocates per route nor grows with their number.
Routes that could both win for the same request are refused here, at compile time, with both names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from strangler_proxy.core.epoch import Ownership, newer
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Predicate, Route
from strangler_proxy.core.stage import Origin

NO_FLAG: Final = ""


class CompiledRoute:
    """A route with its flag and clusters resolved. Immutable by convention; compare by identity."""

    __slots__ = ("clusters", "decisions", "flag", "is_open", "route")

    def __init__(self, route: Route, flag: Flag, clusters: Mapping[Origin, Cluster]) -> None:
        self.route = route
        self.flag = flag
        self.clusters = clusters
        self.is_open = not (route.methods or route.headers or route.query)
        """Its path alone decides whether it matches."""
        self.decisions: dict[object, object] = {}
        """Interned decisions of this route (`core.decision` fills it), so that deciding allocates nothing."""

    def __repr__(self) -> str:
        return f"<CompiledRoute {self.route.name} flag={self.flag.key} stage={self.flag.stage.value}>"


class _Node:
    """A place in the tree. `only`, once compiled: what is known of the ways on, so that most are taken without asking.

    The children where there is nothing else, the node below where there is but a parameter, the route where there is
    but a tail that takes everything, and None where there are several ways: then `_descend` tries them in order.
    """

    __slots__ = ("children", "ends", "only", "param", "tail")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.ends: list[CompiledRoute] = []
        self.tail: list[CompiledRoute] = []
        self.only: dict[str, _Node] | _Node | CompiledRoute | None = None


class RoutingTable:
    """Compiled, immutable set of routes and flags; has a revision. Swapped in with one assignment.

    `default_cluster` gets whatever no route matches. An empty table sends everything there.
    """

    __slots__ = ("_hosts", "clusters", "default_cluster", "flags", "revision", "routes")

    def __init__(
        self,
        *,
        revision: int,
        flags: Mapping[str, Flag],
        routes: tuple[Route, ...],
        clusters: Mapping[str, Cluster],
        default_cluster: Cluster,
        hosts: dict[str, _Node],
    ) -> None:
        self.revision = revision
        self.flags = flags
        self.routes = routes
        self.clusters = clusters
        self.default_cluster = default_cluster
        self._hosts = hosts

    @classmethod
    def compile(
        cls,
        *,
        revision: int,
        flags: Iterable[Flag],
        routes: Iterable[Route],
        clusters: Iterable[Cluster],
        default_cluster: str,
    ) -> RoutingTable:
        """Build a table. Raises DeclarationError with every problem: unknown names, bad weights, ties, bad paths."""
        by_cluster = {c.name: c for c in clusters}
        by_flag = {f.key: f for f in flags}
        declared = tuple(routes)
        problems = _problems(by_flag, declared, by_cluster, default_cluster)
        if problems:
            raise DeclarationError(problems)
        hosts: dict[str, _Node] = {}
        for route in declared:
            compiled = CompiledRoute(
                route, by_flag[route.flag], {o: by_cluster[name] for o, name in route.clusters.items()}
            )
            _insert(hosts.setdefault(route.host.lower(), _Node()), compiled)
        for root in hosts.values():
            _settle(root)
        return cls(
            revision=revision,
            flags=by_flag,
            routes=declared,
            clusters=by_cluster,
            default_cluster=by_cluster[default_cluster],
            hosts=hosts,
        )

    @classmethod
    def empty(cls, default_cluster: Cluster) -> RoutingTable:
        """No flags, no routes, revision 0: everything to one cluster."""
        return cls.compile(
            revision=0, flags=(), routes=(), clusters=(default_cluster,), default_cluster=default_cluster.name
        )

    def with_ownership(self, flag_key: str, told: Ownership) -> RoutingTable:
        """The same table with a newer grant for one flag; itself where the grant is not newer or the flag unknown."""
        flag = self.flags.get(flag_key)
        if flag is None:
            return self
        known = Ownership(owner=flag.owner, epoch=flag.owner_epoch)
        if newer(known, told) is known:
            return self
        changed = dataclasses.replace(flag, owner=told.owner, owner_epoch=told.epoch)
        return RoutingTable.compile(
            revision=self.revision,
            flags={**self.flags, flag_key: changed}.values(),
            routes=self.routes,
            clusters=self.clusters.values(),
            default_cluster=self.default_cluster.name,
        )

    def match(
        self, method: str, host: str, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> CompiledRoute | None:
        """The most specific route for a request, or None.

        `host` lower case without port, `path` canonical (see `core.paths`), header names lower case.
        """
        hosts = self._hosts
        root = hosts.get(host) if host else None
        if root is not None:
            found = _walk(root, path, method, headers, query)
            if found is not None:
                return found
        root = hosts.get("")
        return None if root is None else _walk(root, path, method, headers, query)


def segments(path: str) -> list[str]:
    """`/a/b` -> `["a", "b"]`; `/` -> `[""]`. A trailing slash makes a last empty segment: `/a/` is not `/a`."""
    return path[1:].split("/")


def _walk(
    root: _Node, path: str, method: str, headers: Mapping[str, str], query: Mapping[str, str]
) -> CompiledRoute | None:
    node, parts, at = root, path.split("/"), 1
    size = len(parts)
    while at < size:
        only = node.only
        if type(only) is dict:
            child = only.get(parts[at])
            if child is None:
                return None
            node = child
        elif type(only) is _Node:
            if not parts[at]:
                return None
            node = only
        elif only is not None:
            return only  # type: ignore[return-value]
        else:
            return _descend(node, parts, at, method, headers, query)
        at += 1
    ends = node.ends
    if ends and ends[0].is_open:
        return ends[0]
    return _descend(node, parts, at, method, headers, query)


def _descend(
    node: _Node, parts: list[str], at: int, method: str, headers: Mapping[str, str], query: Mapping[str, str]
) -> CompiledRoute | None:
    if at == len(parts):
        for route in node.ends:
            if route.is_open or _accepts(route.route, method, headers, query):
                return route
    else:
        child = node.children.get(parts[at])
        if child is not None:
            found = _descend(child, parts, at + 1, method, headers, query)
            if found is not None:
                return found
        if node.param is not None and parts[at]:
            found = _descend(node.param, parts, at + 1, method, headers, query)
            if found is not None:
                return found
    for route in node.tail:
        if route.is_open or _accepts(route.route, method, headers, query):
            return route
    return None


def _accepts(route: Route, method: str, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    methods = route.methods
    if methods and method not in methods and not (method == "HEAD" and "GET" in methods):
        return False
    for predicate in route.headers:
        if not _holds(predicate, headers.get(predicate.name.lower())):
            return False
    return all(_holds(predicate, query.get(predicate.name)) for predicate in route.query)


def _holds(predicate: Predicate, value: str | None) -> bool:
    return value is not None and (predicate.value is None or predicate.value == value)


def _insert(root: _Node, compiled: CompiledRoute) -> None:
    node = root
    parts = segments(compiled.route.path)
    tail = parts[-1] == "**"
    for part in parts[:-1] if tail else parts:
        if part.startswith("{"):
            if node.param is None:
                node.param = _Node()
            node = node.param
        else:
            node = node.children.setdefault(part, _Node())
    (node.tail if tail else node.ends).append(compiled)


def _settle(node: _Node) -> None:
    """The tree is complete: sort what ends here, and note where there is one way on."""
    for routes in (node.ends, node.tail):
        routes.sort(key=lambda r: -len(r.route.headers) - len(r.route.query))
    for child in node.children.values():
        _settle(child)
    if node.param is not None:
        _settle(node.param)
    if node.param is None and not node.tail:
        node.only = node.children
    elif not node.children and not node.tail:
        node.only = node.param
    elif not node.children and node.param is None and node.tail[0].is_open:
        node.only = node.tail[0]


def shape(path: str) -> str:
    """The path with parameter names dropped: what two routes must share to be able to tie."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def _problems(
    flags: Mapping[str, Flag], routes: tuple[Route, ...], clusters: Mapping[str, Cluster], default_cluster: str
) -> list[str]:
    problems: list[str] = []
    if default_cluster not in clusters:
        problems.append(f'default cluster "{default_cluster}" is not declared')
    for flag in flags.values():
        if not 0 <= flag.weight <= 10_000:
            problems.append(f'flag "{flag.key}": weight {flag.weight} is outside 0..10000')
    for name, cluster in clusters.items():
        if not cluster.endpoints:
            problems.append(f'cluster "{name}" has no endpoints')
    seen: dict[tuple[str, str, int], list[Route]] = {}
    names: set[str] = set()
    for route in routes:
        if route.name in names:
            problems.append(f'route "{route.name}" is declared twice')
        names.add(route.name)
        problems += _route_problems(route, flags, clusters)
        rank = len(route.headers) + len(route.query)
        peers = seen.setdefault((route.host.lower(), shape(route.path), rank), [])
        for peer in peers:
            if _could_tie(route, peer):
                problems.append(
                    f'route "{route.name}" and route "{peer.name}" match the same requests ({route.path}): '
                    "give them different methods, paths or predicates"
                )
        peers.append(route)
    return problems


def _route_problems(route: Route, flags: Mapping[str, Flag], clusters: Mapping[str, Cluster]) -> list[str]:
    problems: list[str] = []
    where = f'route "{route.name}"'
    if route.flag not in flags:
        problems.append(f'{where} names the unknown flag "{route.flag}"')
    for origin in Origin:
        name = route.clusters.get(origin)
        if name is None:
            problems.append(f"{where} names no cluster for {origin.value}")
        elif name not in clusters:
            problems.append(f'{where} names the unknown cluster "{name}" for {origin.value}')
    parts = route.path.split("/")
    if parts[0] != "" or len(parts) < 2:
        problems.append(f'{where}: path "{route.path}" must begin with "/"')
    for at, part in enumerate(parts[1:], start=1):
        is_param = part.startswith("{") and part.endswith("}") and len(part) > 2
        if part == "**" and at == len(parts) - 1:
            continue
        if not is_param and any(c in part for c in "{}*?#% "):
            problems.append(f'{where}: path segment "{part}" is neither literal, {{name}}, nor ** at the end')
        if part in (".", "..") or (part == "" and at != len(parts) - 1):
            problems.append(f'{where}: path "{route.path}" is not canonical')
    return problems


def _could_tie(one: Route, two: Route) -> bool:
    if one.methods and two.methods:
        wide = [m | {"HEAD"} if "GET" in m else m for m in (one.methods, two.methods)]
        if not wide[0] & wide[1]:
            return False
    return not (_exclude(one.headers, two.headers) or _exclude(one.query, two.query))


def _exclude(one: tuple[Predicate, ...], two: tuple[Predicate, ...]) -> bool:
    """Do two predicate lists ask for different values of the same field?"""
    asked = {p.name.lower(): p.value for p in one if p.value is not None}
    return any(p.value is not None and asked.get(p.name.lower(), p.value) != p.value for p in two)
