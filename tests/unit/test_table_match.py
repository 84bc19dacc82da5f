"""The route that wins, held against a reading of the rules that tries every route."""

from __future__ import annotations

import itertools
import random

import pytest

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint, Predicate, Route
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable

BOTH = {Origin.MONOLITH: "one", Origin.EXTRACTED: "one"}
SEGMENTS = ("a", "b", "{x}", "{y}")
METHODS = (*[frozenset[str]()] * 4, frozenset({"GET"}), frozenset({"POST"}))
HEADERS = ((), (), (Predicate(name="k", value="v"),), (Predicate(name="k", value="w"),))
ASKED = [
    "/" + "/".join(parts) for length in range(1, 5) for parts in itertools.product(["a", "b", "c", ""], repeat=length)
]


def declared(draw: random.Random) -> list[Route]:
    """Up to a dozen routes that do not tie."""
    kept: list[Route] = []
    for number in range(draw.randrange(1, 13)):
        parts = draw.choices(SEGMENTS, k=draw.randrange(4)) + draw.choice(([], [""], ["**"]))
        host, path = draw.choice(("", "", "h")), "/" + "/".join(parts)
        new = route(f"r{number}", path, host, draw.choice(METHODS), draw.choice(HEADERS))
        try:
            table([*kept, new])
        except DeclarationError:
            continue
        kept.append(new)
    return kept


def route(
    name: str,
    path: str,
    host: str = "",
    methods: frozenset[str] = frozenset(),
    headers: tuple[Predicate, ...] = (),
) -> Route:
    return Route(name=name, flag="f", path=path, host=host, methods=methods, headers=headers, clusters=BOTH)


def table(routes: list[Route]) -> RoutingTable:
    return RoutingTable.compile(
        revision=1,
        flags=[Flag(key="f", stage=Stage.MONOLITH)],
        routes=routes,
        clusters=[Cluster(name="one", endpoints=(Endpoint(host="127.0.0.1", port=1),))],
        default_cluster="one",
    )


def rank(route: Route, path: str) -> tuple[int, ...] | None:
    """How a route's path fits, segment by segment: literal before parameter before the rest; None: it does not."""
    parts, pattern = path.split("/")[1:], route.path.split("/")[1:]
    ranks: list[int] = []
    for at, wanted in enumerate(pattern):
        if wanted == "**":
            return (*ranks, 2)
        if at >= len(parts) or (wanted[:1] == "{" and not parts[at]) or (wanted[:1] != "{" and wanted != parts[at]):
            return None
        ranks.append(1 if wanted[:1] == "{" else 0)
    return tuple(ranks) if len(parts) == len(pattern) else None


def accepts(route: Route, method: str, headers: dict[str, str]) -> bool:
    allowed = not route.methods or method in route.methods or (method == "HEAD" and "GET" in route.methods)
    return allowed and all(headers.get(each.name) == each.value for each in route.headers)


def slowly(made: RoutingTable, method: str, host: str, path: str, headers: dict[str, str]) -> str | None:
    for wanted in [host, ""] if host else [""]:
        fits = [
            (found, -len(route.headers), route.name)
            for route in made.routes
            if route.host == wanted and (found := rank(route, path)) is not None and accepts(route, method, headers)
        ]
        if fits:
            return min(fits)[2]
    return None


@pytest.mark.parametrize("seed", range(20))
def test_the_tree_finds_what_trying_every_route_finds(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        made = table(declared(draw))
        method, host = draw.choice(("GET", "HEAD", "POST")), draw.choice(("", "h", "i"))
        headers = draw.choice(({}, {"k": "v"}, {"k": "u"}))
        for path in ASKED:
            found = made.match(method, host, path, headers, {})
            assert (found.route.name if found else None) == slowly(made, method, host, path, headers), path


def test_a_parameter_takes_no_empty_segment_and_a_tail_takes_none_at_all() -> None:
    made = table([route("one", "/a/{x}"), route("two", "/b/**")])
    asked = [made.match("GET", "", path, {}, {}) for path in ("/a/", "/a/1", "/a/1/", "/b", "/b/", "/b/1/2")]
    assert [found and found.route.name for found in asked] == [None, "one", None, "two", "two", "two"]
