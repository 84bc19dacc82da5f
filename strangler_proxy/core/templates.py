"""Path templates learned from traffic: `/products/{id}` beside `/products/search`, in bounded memory.

A segment that looks like an id, a uuid, a date, a hash or a token folds at once; one that varies much folds to `{slug}`
once enough different ones were seen, while literals that are clearly frequent stay. Folding goes on as more is seen, so
a template that was given earlier is folded again with `fold` before it is counted with later ones.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_SHAPES: Final = (
    ("{id}", re.compile(r"-?\d+\Z|[A-Za-z]{1,6}[-_]?\d{3,}\Z")),
    ("{uuid}", re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.I)),
    ("{date}", re.compile(r"\d{4}-\d\d(?:-\d\d(?:T[0-9:.+Z-]*)?)?\Z|\d{4}w\d\d\Z", re.I)),
    ("{hash}", re.compile(r"(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\Z", re.I)),
    ("{email}", re.compile(r"[^@\s]+(?:@|%40)[^@\s]+\Z", re.I)),
    ("{token}", re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])(?![a-z0-9]+(?:-[a-z0-9]+)+\Z)[\w=.~%-]{16,}\Z")),
    ("{token}", re.compile(r"(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9_-]{24,}\Z")),
)
_SLUG: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)+\Z", re.I)
_PARAMETER: Final = re.compile(r"\{\w+\}\Z")
LONGEST: Final = 80
DEPTH: Final = 12
SLUGS: Final = 12
WORDS: Final = 30
LITERALS: Final = 120
SINGLE: Final = 0.25
"""More than WORDS siblings are data once LITERALS visits have shown that so many of them still come only once (of slugs
SLUGS visits are enough); a site's own pages, however many they are, come again. LITERALS siblings are data in any case.
"""
FREQUENT: Final = 4.0
"""A literal stays where it is this many times as frequent as its siblings are on average."""


def shape(segment: str) -> str | None:
    """The parameter that a segment is by its looks alone, None if it may be a literal.

    >>> shape("42"), shape("2f1e9a3c"), shape("search"), shape("v2")
    ('{id}', '{hash}', None, None)
    """
    for name, pattern in _SHAPES:
        if pattern.match(segment):
            return name
    return "{slug}" if len(segment) > LONGEST or not segment.isascii() else None


@dataclass(slots=True)
class _Node:
    visits: int = 0
    under: dict[str, _Node] = field(default_factory=dict)

    def absorb(self, other: _Node) -> int:
        """Take in another node's visits and children; returns how many nodes became one."""
        self.visits += other.visits
        gone = 1
        for name, node in other.under.items():
            if name in self.under:
                gone += self.under[name].absorb(node)
            else:
                self.under[name] = node
        return gone


@dataclass(slots=True)
class Templates:
    """Learns templates. Holds at most `limit` nodes; from then on what is new is `{slug}` (`crowded` counts it)."""

    limit: int = 5_000
    crowded: int = 0
    _nodes: int = 1
    _root: _Node = field(default_factory=_Node)

    def learn(self, path: str, visits: int = 1) -> str:
        """Take in a path (canonical, without query), seen `visits` times, and return its template as known now.

        >>> templates = Templates()
        >>> templates.learn("/products/17/reviews"), templates.learn("/products/search")
        ('/products/{id}/reviews', '/products/search')
        """
        segments, _ = _split(path)
        node: _Node | None = self._root
        self._root.visits += visits
        for segment in segments:
            if node is None:
                break
            node = self._enter(node, _parameter(segment) or segment, visits)
        return self.fold(path)

    def fold(self, path: str) -> str:
        """The template of a path, or of a template that was given earlier. Learns nothing, and is idempotent."""
        segments, rest = _split(path)
        node: _Node | None = self._root
        folded = []
        for segment in segments:
            name = _parameter(segment) or segment
            known = node is not None and name in node.under
            varies = self.crowded or (node is not None and "{slug}" in node.under)
            if segment and not known and varies and not _PARAMETER.match(name):
                name = "{slug}"
            folded.append(name)
            node = node.under.get(name) if node is not None else None
        return "/" + "/".join(folded) + rest

    def __len__(self) -> int:
        return self._nodes

    def _enter(self, node: _Node, name: str, visits: int) -> _Node | None:
        if name not in node.under and "{slug}" in node.under and not _PARAMETER.match(name):
            name = "{slug}"
        found = node.under.get(name)
        if found is None:
            if self._nodes >= self.limit:
                self.crowded += 1
                return None
            found = node.under[name] = _Node()
            self._nodes += 1
            self._fold_literals(node)
            found = node.under.get(name) or node.under["{slug}"]
        found.visits += visits
        return found

    def _fold_literals(self, node: _Node) -> None:
        """Fold siblings that vary much: many that look like slugs, or very many words."""
        literals = [name for name in node.under if not _PARAMETER.match(name)]
        slugs = [name for name in literals if _SLUG.match(name)]
        if len(literals) > WORDS and _varies(node, infrequent := _infrequent(node, literals), LITERALS):
            doomed = infrequent
        elif len(slugs) > SLUGS and _varies(node, slugs, SLUGS):
            doomed = slugs
        else:
            return
        into = node.under.get("{slug}")
        for name in doomed:
            gone = node.under.pop(name)
            if into is None:
                into = node.under["{slug}"] = _Node()
                self._nodes += 1
            self._nodes -= into.absorb(gone)


def _varies(node: _Node, names: list[str], fewest: int) -> bool:
    """Do these siblings go on being others, after so many visits?"""
    visits = [node.under[name].visits for name in names]
    if len(visits) >= LITERALS:
        return True
    return sum(visits) >= fewest and visits.count(1) > SINGLE * sum(visits)


def _infrequent(node: _Node, literals: list[str]) -> list[str]:
    visits = Counter({name: node.under[name].visits for name in literals})
    usual = sorted(visits.values())[len(visits) // 2]
    return [name for name in literals if visits[name] < FREQUENT * usual or _SLUG.match(name)]


def _parameter(segment: str) -> str | None:
    return segment if _PARAMETER.match(segment) else shape(segment)


def _split(path: str) -> tuple[list[str], str]:
    segments = path.split("/")[1:]
    if len(segments) > DEPTH:
        return segments[:DEPTH], "/**"
    return segments, ""
