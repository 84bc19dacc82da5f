"""HTML compared by its tree: order and quoting of attributes, order of classes, white space, comments do not count.

Paths are `html:SELECTOR`, a selector that a browser understands, without positions (`html:main > ul > li`); an
attribute is `html:form > input[name=q][value]`. `html`, `head` and `body` are transparent, because browsers add them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

from strangler_proxy.core.difference import ABSENT, Kind, step
from strangler_proxy.core.walk import Walk

_TRANSPARENT: Final = frozenset({"html", "head", "body"})
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_KEPT_SPACE: Final = frozenset({"pre", "textarea", "script", "style"})
_CLOSES: Final = {
    "li": frozenset({"li"}),
    "p": frozenset({"p"}),
    "td": frozenset({"td", "th"}),
    "th": frozenset({"td", "th"}),
    "tr": frozenset({"tr", "td", "th"}),
    "option": frozenset({"option"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
}
_NAMED: Final = {"input": "name", "meta": "name", "select": "name", "textarea": "name", "link": "rel"}
_SPACE: Final = re.compile(r"\s+")
_DECLARATION: Final = re.compile(r"<!(?!--|doctype)|<\?", re.I)
DEPTH: Final = 100
UNCLOSED: Final = 200
TAGS: Final = 40_000
SHOWN: Final = 50
CHARS: Final = 1_000_000


@dataclass(slots=True)
class Element:
    """One element: its attributes and its children, elements and texts."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)
    digest: bytes = field(default=b"", compare=False, repr=False)

    @property
    def selector(self) -> str:
        """How the element is named in a path."""
        name = self.attributes.get("id", "")
        if name and step(name) == name:
            return f"{self.tag}#{name}"
        by = _NAMED.get(self.tag, "")
        value = self.attributes.get(by, "")
        return f"{self.tag}[{by}={value}]" if value and step(value) == value else self.tag

    def seal(self) -> None:
        """Compute the digest, equal for equal elements; the children are sealed before."""
        said = repr((self.tag, sorted(self.attributes.items()), [_form(child) for child in self.children]))
        self.digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _form(child: Element | str) -> str | bytes:
    return child if isinstance(child, str) else child.digest


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self.open = [self.root]
        self.elements = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TRANSPARENT:
            return
        if self.open[-1].tag in _CLOSES.get(tag, ()):
            self.open.pop()
            if tag == "tr" and self.open[-1].tag == "tr":
                self.open.pop()
        element = Element(tag, {name: _value(name, value) for name, value in reversed(attrs)})
        self.open[-1].children.append(element)
        self.elements.append(element)
        if tag not in _VOID and len(self.open) <= DEPTH:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self.open) - 1, 0, -1):
            if self.open[depth].tag == tag:
                del self.open[depth:]
                return

    def handle_data(self, data: str) -> None:
        parent = self.open[-1]
        words = data if parent.tag in _KEPT_SPACE else _SPACE.sub(" ", data).strip()
        if not words:
            return
        if parent.children and isinstance(parent.children[-1], str):
            parent.children[-1] += words if parent.tag in _KEPT_SPACE else f" {words}"
        else:
            parent.children.append(words)


def is_tractable(words: str) -> bool:
    """Can it be read in time that grows with its length? Unclosed tags make the standard reader quadratic."""
    tags = words.count("<")
    return tags <= TAGS and tags - words.count(">") <= UNCLOSED and len(words) <= CHARS


def read_html(words: str) -> Element:
    """The root of a document's tree, its tag empty. Elements nested deeper than 100 become siblings.

    >>> read_html("<p class='b a'>x<p>y").children[0]
    Element(tag='p', attributes={'class': 'a b'}, children=['x'])
    """
    reader = _Reader()
    reader.feed(_DECLARATION.sub("&lt;!", words))  # marked sections make the standard reader quadratic
    reader.close()
    for element in reversed(reader.elements):  # an element is opened after the one that holds it
        element.seal()
    return reader.root


def walk_html(walk: Walk, a: Element, b: Element) -> None:
    """Note the differences of two trees."""
    _children(walk, "", a, b, 0)


def _element(walk: Walk, above: str, a: Element, b: Element, depth: int) -> None:
    name = a.selector if a.selector == b.selector else a.tag
    path = f"{above} > {name}" if above else name
    if not walk.spend(1, depth):
        return
    if a.attributes != b.attributes:
        for key in a.attributes | b.attributes:
            x, y = a.attributes.get(key, ABSENT), b.attributes.get(key, ABSENT)
            if x != y:
                kind = Kind.MISSING if y is ABSENT else Kind.EXTRA if x is ABSENT else Kind.VALUE
                walk.note(f"html:{path}[{step(key)}]", "", kind, x, y)
    _children(walk, path, a, b, depth)


def _children(walk: Walk, path: str, a: Element, b: Element, depth: int) -> None:
    if a.digest == b.digest:
        return
    place = f"html:{path}"
    if _tags(a) != _tags(b):
        walk.note(
            place,
            "",
            Kind.LENGTH if len(a.children) != len(b.children) else Kind.TYPE,
            _tags(a)[:SHOWN],
            _tags(b)[:SHOWN],
        )
    elif len(a.children) > 1 and _permuted(a, b):
        walk.note(place, "", Kind.ORDER, _tags(a)[:SHOWN], _tags(b)[:SHOWN])
        return
    for x, y in _aligned(a.children, b.children):
        if isinstance(x, str) and isinstance(y, str):
            if x != y:
                walk.note(place, "", Kind.VALUE, x, y)
        elif isinstance(x, Element) and isinstance(y, Element) and x.tag == y.tag:
            _element(walk, path, x, y, depth + 1)


def _permuted(a: Element, b: Element) -> bool:
    ours, theirs = [_form(child) for child in a.children], [_form(child) for child in b.children]
    return ours != theirs and Counter(ours) == Counter(theirs)


def _aligned(a: list[Element | str], b: list[Element | str]) -> Iterator[tuple[Element | str, Element | str]]:
    if len(a) == len(b):
        yield from zip(a, b, strict=True)
        return
    head = 0
    while head < min(len(a), len(b)) and _form(a[head]) == _form(b[head]):
        head += 1
    tail = 0
    while tail < min(len(a), len(b)) - head and _form(a[-1 - tail]) == _form(b[-1 - tail]):
        tail += 1
    yield from zip(a[head : len(a) - tail], b[head : len(b) - tail], strict=False)


def _tags(element: Element) -> list[str]:
    return ["text" if isinstance(child, str) else child.selector for child in element.children]


def _value(name: str, value: str | None) -> str:
    words = value or ""
    return " ".join(sorted(set(words.split()))) if name == "class" else words
