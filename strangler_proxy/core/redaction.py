"""Redaction: what is kept as evidence holds no secret, and equal secrets stay equal.

A secret becomes `[kind:0123456789ab]`, a keyed hash (HMAC-SHA-256, cut to 48 bits): the same secret gives the same
mark under one key, and nobody without the key can try guesses. Redaction goes first by name (everything under
`password`), then by pattern (a card number in any text), and cuts only what is redacted already.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from strangler_proxy.core.decoding import text as decoded_text
from strangler_proxy.core.difference import ABSENT, Constant, Difference
from strangler_proxy.core.document import Form, NotJson, form_of, read_csv, read_json
from strangler_proxy.core.secret import (
    AREA,
    MULTIPART,
    NAMED,
    NESTED,
    PATTERNS,
    TAG,
    TAG_NAMES,
    TAG_VALUE,
    cards,
    ends_secret,
    is_secret_name,
)

TEXT_CHARS: Final = 262_144
DEPTH: Final = 200
_MARGIN: Final = 512
_LEVELS: Final = 20
"""Escaped `name%3Dvalue` after each other that are looked into; what comes after them is taken for a secret."""
_WITHHELD: Final = frozenset({"authorization", "proxy-authorization", "www-authenticate", "authentication-info"})
_TARGETS: Final = frozenset({"location", "content-location", "referer", "refresh", "link", "origin"})
SECRET_STEPS: Final = re.compile(
    r"reset|token|verif|confirm|magic|invit|activat|unsubscribe|session|secret|passw", re.I
)
_PLAIN_STEP: Final = re.compile(r"[a-z]{1,24}(?:-[a-z]{1,24})*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactor:
    """Redacts under one key (32 random bytes, kept by the team, never beside the evidence)."""

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise ValueError(f"the redaction key has {len(self.key)} bytes: give at least 16")

    def mark(self, kind: str, secret: str) -> str:
        """What stands for a secret."""
        digest = hmac.new(self.key, f"{kind}\0{secret}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"[{kind}:{digest.hexdigest()[:12]}]"

    def text(self, words: str) -> str:
        """A text without secrets: those under a secret name in it, then all patterns; at most 256 Ki characters."""
        cut = len(words) > TEXT_CHARS
        words = words[:TEXT_CHARS]
        words = AREA.sub(self._area, TAG.sub(self._tag, words))
        words = MULTIPART.sub(self._part, words)
        words = self._nested(words)
        words = NAMED.sub(self._named, words)
        words = self._patterns(words)
        return f"{words[:-_MARGIN]} [cut]" if cut else words

    def value(self, value: object, *, name: str = "", depth: int = 0) -> object:
        """A JSON value without secrets, its keys included; secret numbers become marks, null and booleans stay."""
        if depth > DEPTH:
            return "[cut]"
        if isinstance(value, dict):
            return {
                self.text(str(key)): self.value(each, name=name if is_secret_name(name) else str(key), depth=depth + 1)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(each, name=name, depth=depth + 1) for each in value]
        if value is None or isinstance(value, bool):
            return value
        if value is ABSENT:
            return None
        if is_secret_name(name):
            return self.mark("secret", str(value))
        if isinstance(value, str) and not isinstance(value, Constant):
            return self.text(value)
        return self._number(value)

    def fields(self, fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Headers without secrets; cookies keep their names and attributes."""
        return [(self.text(name), self.field(name.lower(), value)) for name, value in fields]

    def field(self, name: str, value: str) -> str:
        """One header's value, by its name in lower case."""
        if name == "set-cookie":
            pair, *rest = value.split(";")
            return ";".join([self._cookie(pair), *(self.text(part) for part in rest)])
        if name == "cookie":
            return "; ".join(self._cookie(part.strip()) for part in value.split(";"))
        if name in _WITHHELD:
            scheme, space, said = value.partition(" ")
            return f"{scheme} {self.mark('secret', said)}" if space and scheme.isalpha() else self.mark("secret", value)
        if is_secret_name(name):
            return self.mark("secret", value)
        if name in _TARGETS:
            return self.target(value)
        return self.text(value)

    def target(self, target: str) -> str:
        """A request target or URL: path by segment, query and fragment by parameter."""
        rest, hash_mark, fragment = target.partition("#")
        path, question, query = rest.partition("?")
        said: str = self.path(path)
        if question:
            said += "?" + self.query(query)
        return said + (hash_mark + self.query(fragment) if hash_mark else "")

    def path(self, path: str) -> str:
        """A path; a segment after one such as `reset` or `token` is a secret unless it is a plain word."""
        before = ""
        segments: list[str] = []
        for segment in self._patterns(path).split("/"):
            plain = unquote(segment)
            if before and SECRET_STEPS.search(before) and plain and not _PLAIN_STEP.match(plain):
                segments.append(plain if plain.startswith("[") and plain.endswith("]") else self.mark("secret", plain))
            else:
                clean = self._decoded(plain)
                segments.append(segment if clean == plain else clean)
            before = plain
        return "/".join(segments)

    def query(self, query: str) -> str:
        """A query or form body; what holds no secret stays as it was spelled."""
        return "&".join(self._parameter(part) for part in query.split("&"))

    def body(self, body: bytes, content_type: str) -> str:
        """A decoded body as text without secrets; of binary bodies only length and a keyed hash are left."""
        form = form_of(content_type)
        words, problem = decoded_text(body, content_type)
        binary = b"\0" in body[:4_096] or (form is Form.BYTES and problem)
        if binary and not content_type.lower().startswith("multipart/"):
            return f"{len(body)} bytes {self.mark('bytes', hashlib.sha256(body).hexdigest())}"
        if form is Form.JSON or (form is Form.BYTES and words[:1] in ("{", "[")):
            try:
                content, _ = read_json(words)
                return self.json(content)
            except NotJson:
                return self.text(words)
        if form is Form.CSV:
            words = self._csv(words)
        return self.query(words) if form is Form.FIELDS else self.text(words)

    def _csv(self, words: str) -> str:
        """A CSV text with marks in columns that have the name of a secret."""
        words = words[:TEXT_CHARS]
        columns, _, cells = words.partition("\n")
        if not any(map(is_secret_name, columns.split(","))):
            return words
        rows = read_csv(words)
        if not rows:
            return f"{columns}\n{self.mark('secret', cells)}" if cells.strip() else words
        secret = [name for name in rows[0] if is_secret_name(name)]
        out = io.StringIO(newline="")
        lines = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        lines.writeheader()
        for row in rows:
            lines.writerow(row | {name: self.mark("secret", row[name]) for name in secret if row.get(name)})
        return out.getvalue()

    def json(self, value: object, *, name: str = "") -> str:
        """A JSON value as compact text without secrets."""
        return json.dumps(self.value(value, name=name), ensure_ascii=False, default=str, separators=(",", ":"))

    def difference(self, found: Difference, *, chars: int = 400) -> Difference:
        """A difference whose paths and values hold no secret, the values as text cut to `chars`."""
        names = re.split(r"[.\[\]\s>]+", found.path)
        name = next((each for each in names[1:] if is_secret_name(each)), "") or (
            names[0] if is_secret_name(names[0]) and names[0] != "cookie" else ""
        )
        if found.path.startswith("cookie.") and found.path.endswith(".value"):
            name = "cookie"
        if _UNNAMED_FIELD.match(found.path):
            name = "secret"
        shown = {"path": self.text(found.path), "at": self.text(found.at)}
        for side in ("control", "candidate"):
            value = getattr(found, side)
            if found.path in ("header.location", "header.link", "header.content-location"):
                value = self.target(value) if isinstance(value, str) else value
            said = value if value is ABSENT else self._short(value, name, chars)
            shown[side] = said  # type: ignore[assignment]
        return replace(found, **shown)  # type: ignore[arg-type]

    def _short(self, value: object, name: str, chars: int) -> str:
        said = self.json(value, name=name)
        return said if len(said) <= chars else f"{said[:chars]}… ({len(said)} characters)"

    def _number(self, value: object) -> object:
        words = format(value, "f") if isinstance(value, Decimal) and abs(value.adjusted()) < 40 else str(value)
        if len(words) < 13:
            return value if isinstance(value, int | float) else words if isinstance(value, Constant) else _shown(value)
        clean = self._patterns(words)
        return clean if clean != words else value if isinstance(value, int) else words

    def _patterns(self, words: str) -> str:
        for kind, needles, pattern in PATTERNS:
            if needles and not any(needle in words for needle in needles):
                continue
            words = pattern.sub(lambda found, kind=kind: self.mark(kind, found.group()), words)  # type: ignore[misc]
        pieces: list[str] = []
        last = 0
        for start, end in cards(words):
            digits = re.sub(r"%20|\D", "", words[start:end])
            pieces += [words[last:start], self.mark("card", digits)]
            last = end
        return "".join([*pieces, words[last:]]) if pieces else words

    def _decoded(self, plain: str) -> str:
        """A text that may still be escaped: it is redacted at the level at which a secret shows."""
        for _ in range(3):
            clean = self.text(plain)
            deeper = unquote_plus(plain)
            if clean != plain or deeper == plain:
                return clean
            plain, before = deeper, plain
            if self.text(plain) == plain and unquote_plus(plain) == plain:
                return before
        return self.text(plain)

    def _parameter(self, part: str) -> str:
        name, equals, value = part.partition("=")
        plain_name, plain = unquote_plus(name), unquote_plus(value)
        clean_name = self._decoded(plain_name)
        shown = name if clean_name == plain_name else quote(clean_name, safe="[]:")
        if plain and (is_secret_name(plain_name) or is_secret_name(unquote_plus(plain_name))):
            return f"{shown}={self.mark('secret', plain)}"
        clean = self._decoded(plain)
        return f"{shown}{equals}{value if clean == plain else quote(clean, safe='[]:')}"

    def _cookie(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if not equals:
            return self.mark("cookie", pair) if pair else ""
        return f"{self.text(name)}={self.mark('cookie', value)}"

    def _named(self, found: re.Match[str], level: int = 0) -> str:
        value = found.group("value")
        if value in ("true", "false", "null") or value.startswith("[secret"):
            return found.group()
        if not ends_secret(found.group("name")):
            if "=" not in value and ":" not in value and "%3" not in value:
                return found.group()
            before = found.group()[: len(found.group()) - len(value)]
            if level == _LEVELS:
                return before + self.mark("secret", value)
            return before + NAMED.sub(lambda inner: self._named(inner, level + 1), value)
        quotes = '"' if value.lstrip("\\").startswith('"') else "'" if value.startswith("'") else ""
        return (
            f"{found.group('name')}{found.group('between')}{quotes}{self.mark('secret', value.strip(_QUOTES))}{quotes}"
        )

    def _nested(self, words: str) -> str:
        """Values that hold others under a secret name, whole; of one that does not end, all the rest."""
        pieces: list[str] = []
        last = 0
        for found in NESTED.finditer(words):
            if found.start() < last or not ends_secret(found.group(1)):
                continue
            end = _closing(words, found.end())
            pieces += [words[last : found.end()], f'"{self.mark("secret", words[found.end() : end])}"']
            last = end
        return "".join([*pieces, words[last:]]) if pieces else words

    def _part(self, found: re.Match[str]) -> str:
        if not is_secret_name(found.group(1)) or not found.group(2):
            return found.group()
        start = found.start(2) - found.start()
        return found.group()[:start] + self.mark("secret", found.group(2))

    def _area(self, found: re.Match[str]) -> str:
        tag, inside = found.groups()
        named = any(is_secret_name(name) for name in TAG_NAMES.findall(tag))
        return tag + self.mark("secret", inside) if named and inside.strip() else found.group()

    def _tag(self, found: re.Match[str]) -> str:
        tag = found.group()
        if not any(is_secret_name(name) for name in TAG_NAMES.findall(tag)):
            return tag
        return TAG_VALUE.sub(
            lambda value: f'{value.group(1)}"{self.mark("secret", value.group(2).strip(_QUOTES))}"', tag
        )


_QUOTES: Final = "\\\"'"
_UNNAMED_FIELD: Final = re.compile(
    r"html:(?:.* > )?(?:(?:input|button|meta)(?:#[^ ]*)?\[(?:value|content)\]|textarea(?:#[^ ]*)?)\Z"
)
"""A field of a form whose name a path does not say, because the two sides call it differently, or by an id."""


def _shown(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


def _closing(words: str, start: int) -> int:
    depth = 0
    for found in _BRACKET.finditer(words, start):
        depth += 1 if found.group() in "[{" else -1
        if depth == 0:
            return found.end()
    return len(words)


_BRACKET: Final = re.compile(r"[\[\]{}]")
