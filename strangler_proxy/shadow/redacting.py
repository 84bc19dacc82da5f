"""What leaves a comparison for the evidence: redacted, cut, and clean enough for any store."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from strangler_proxy.core.comparison import Comparison
from strangler_proxy.core.decoding import Undo, decode
from strangler_proxy.core.difference import Difference
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.pair import Pair, RawFields
from strangler_proxy.core.redaction import Redactor
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.verdict import Basis

BODY_CHARS: Final = 32_768
"""Of a body in a sample at most."""
BODY_BYTES: Final = 262_144
"""A larger body is not kept: redacting it takes too long."""
FIELDS: Final = 100
FIELD_CHARS: Final = 8_192
VALUE_CHARS: Final = 200
DIFFERENCES: Final = 50
_CACHED: Final = 20_000
_PARAMETER: Final = re.compile(r"\{\w+\}\Z")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff\x00]")


def clean(words: str) -> str:
    r"""A text that every store takes: lone surrogates and NUL as escapes.

    >>> clean("a\x00b\udcff")
    'a\\x00b\\udcff'
    """
    if words.isascii() and "\0" not in words:
        return words
    return _SURROGATE.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else ascii(found[0])[1:-1], words
    )


class Redacting:
    """Redacts for the evidence of one process. Names that come again and again are redacted once."""

    def __init__(self, secret: bytes, undo: Mapping[str, Undo]) -> None:
        self._redactor = Redactor(key=secret)
        self._undo = undo
        self._names: dict[str, str] = {}
        self._templates: dict[str, str] = {}

    def name(self, words: str) -> str:
        """A difference's path, a media type, a version: what evidence is counted by."""
        found = self._names.get(words)
        if found is None:
            if len(self._names) >= _CACHED:
                self._names.clear()
            found = self._names[words] = clean(self._redactor.text(words[:1_000]))
        return found

    def template(self, template: str) -> str:
        """A path template; a segment that is a secret becomes `{secret}`, so that all of them are one template."""
        found = self._templates.get(template)
        if found is None:
            if len(self._templates) >= _CACHED:
                self._templates.clear()
            shown = self._redactor.path(template).split("/")
            said = template.split("/")
            if len(shown) == len(said):
                pairs = zip(said, shown, strict=True)
                shown = [a if a == b or _PARAMETER.match(a) else "{secret}" for a, b in pairs]
            found = self._templates[template] = clean("/".join(shown))
        return found

    def named(self, differences: Iterable[Difference]) -> tuple[Difference, ...]:
        """Differences whose paths are safe to be counted by; their values are as they were."""
        return tuple(
            each if (path := self.name(each.path)) == each.path else replace(each, path=path) for each in differences
        )

    def values(self, found: Difference) -> tuple[str, str]:
        """Both values of a difference, as short redacted text."""
        shown = self._redactor.difference(found, chars=VALUE_CHARS)
        return _said(shown.control), _said(shown.candidate)

    def sample(
        self,
        pair: Pair,
        control: Observation,
        candidate: Observation,
        comparison: Comparison,
        *,
        stratum: StratumKey,
        basis: Basis,
        confirmed: bool,
        bodies: bool = True,
    ) -> Sample:
        """A comparison as it is kept; without any body unless `bodies`."""
        kind = next((value for name, value in pair.fields if name.lower() == b"content-type"), b"").decode("latin-1")
        coding = next((value for name, value in pair.fields if name.lower() == b"content-encoding"), b"")
        return Sample(
            id=pair.id,
            flag=pair.flag,
            at=dt.datetime.fromtimestamp(pair.at, dt.UTC),
            stratum=stratum,
            route=pair.route,
            outcome=comparison.outcome.value,
            confirmed=confirmed,
            basis=basis,
            control_origin=pair.control_origin.value,
            method=stratum.method if stratum.method != "OTHER" else self.name(pair.method),
            target=clean(self._redactor.target(pair.target.decode("latin-1")))[:FIELD_CHARS],
            fields=self._fields(_text(pair.fields)),
            body=self._body(pair.body, kind, coding.decode("latin-1")) if bodies else "",
            safe=pair.safe,
            control=self._answer(control, bodies),
            candidate=self._answer(candidate, bodies),
            differences=tuple(self._difference(each) for each in comparison.differences[:DIFFERENCES]),
            why=self.name(comparison.why),
        )

    def _answer(self, seen: Observation, bodies: bool) -> SampledAnswer:
        body = ""
        if bodies and seen.truncated:
            body = f"[not kept: {seen.body_bytes} bytes]"
        elif bodies:
            body = self._body(seen.body, seen.first("content-type"), seen.first("content-encoding"))
        effects = seen.effects
        return SampledAnswer(
            status=seen.status,
            fields=self._fields(seen.fields),
            body=body,
            body_bytes=seen.body_bytes,
            duration_ms=seen.duration_ms,
            failure="" if seen.failure is None else seen.failure.value,
            effects=None
            if effects is None
            else tuple((self.name(each.kind), self._cut(self._redactor.json(each.detail))) for each in effects),
        )

    def _body(self, body: bytes, content_type: str, coding: str) -> str:
        if not body:
            return ""
        decoded = decode(body, coding, limit=BODY_BYTES, more=self._undo)
        if decoded.problem or len(decoded.body) > BODY_BYTES:
            return f"[not kept: {len(body)} bytes{f', {decoded.detail}' if decoded.detail else ''}]"
        return self._cut(self._redactor.body(decoded.body, content_type))

    def _fields(self, fields: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        listed = list(fields)[:FIELDS]
        return tuple((clean(name), clean(value)[:FIELD_CHARS]) for name, value in self._redactor.fields(listed))

    def _difference(self, found: Difference) -> SampledDifference:
        shown = self._redactor.difference(found, chars=VALUE_CHARS)
        return SampledDifference(
            path=clean(found.path),
            kind=found.kind.value,
            at=clean(shown.at)[:500],
            control=_said(shown.control),
            candidate=_said(shown.candidate),
            covered_by=found.covered_by,
            count=found.count,
        )

    @staticmethod
    def _cut(words: str) -> str:
        words = clean(words)
        return words if len(words) <= BODY_CHARS else f"{words[:BODY_CHARS]} [cut]"


def _said(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _text(fields: RawFields) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
