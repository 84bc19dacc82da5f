"""Bodies of two answers compared, as what they are once their content coding is undone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from strangler_proxy.core.decoding import Decoded, Undo, decode
from strangler_proxy.core.difference import ABSENT, Kind
from strangler_proxy.core.document import TOO_DEEP, Document, Form, read_document
from strangler_proxy.core.markup import Element, walk_html
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.walk import Walk

_WALKED: Final = frozenset({Form.JSON, Form.FIELDS})


def walk_bodies(walk: Walk, control: Observation, candidate: Observation, undo: Mapping[str, Undo]) -> str:
    """Note the differences of two bodies; returns why nothing can be said, or an empty text."""
    codings = control.first("content-encoding"), candidate.first("content-encoding")
    if codings[0] == codings[1] and _known_equal(control, candidate):
        return ""
    if control.truncated or candidate.truncated:
        if (control.truncated and candidate.truncated) or codings[0] != codings[1]:
            return "a body is longer than what was kept of it"
        walk.note("bytes", "", Kind.LENGTH, _size(control), _size(candidate))
        return ""
    ours, theirs = decode(control.body, codings[0], more=undo), decode(candidate.body, codings[1], more=undo)
    if ours.problem or theirs.problem:
        return _undecoded(walk, control, candidate, ours, theirs)
    if ours.body == theirs.body and control.content_type == candidate.content_type:
        return ""
    _walk_documents(
        walk,
        read_document(ours.body, control.first("content-type")),
        read_document(theirs.body, candidate.first("content-type")),
    )
    return ""


def _known_equal(control: Observation, candidate: Observation) -> bool:
    if control.body_digest and candidate.body_digest:
        return control.body_digest == candidate.body_digest and control.first("content-type") == candidate.first(
            "content-type"
        )
    return False


def _size(seen: Observation) -> str:
    return f"more than {len(seen.body)} bytes" if seen.truncated else f"{seen.body_bytes} bytes"


def _undecoded(walk: Walk, control: Observation, candidate: Observation, ours: Decoded, theirs: Decoded) -> str:
    if "unknown" in (ours.problem, theirs.problem) or ours.problem == "bomb":
        return ours.detail if ours.problem else theirs.detail
    if theirs.problem == "bomb" or not ours.problem:
        walk.note("bytes", "", Kind.ERROR, f"{len(ours.body)} bytes", theirs.detail)
    elif not theirs.problem:
        walk.note("bytes", "", Kind.TYPE, ours.detail, f"{len(theirs.body)} bytes")
    elif control.body != candidate.body:
        walk.note("bytes", "", Kind.VALUE, _digest(control.body), _digest(candidate.body))
    return ""


def _walk_documents(walk: Walk, a: Document, b: Document) -> None:
    deep = TOO_DEEP in a.problems, TOO_DEEP in b.problems
    if all(deep):
        walk.found.cut("depth")
    elif a.form is not b.form:
        _note_forms(walk, a, b)
    elif a.form in _WALKED:
        walk.pair("", "", a.content, b.content)
    elif isinstance(a.content, Element) and isinstance(b.content, Element):
        walk_html(walk, a.content, b.content)
    elif a.form is Form.CSV:
        walk.pair("csv", "csv", a.content, b.content)
    elif isinstance(a.content, str) and isinstance(b.content, str):
        _walk_text(walk, a.content, b.content)
    elif isinstance(a.content, bytes) and isinstance(b.content, bytes) and a.content != b.content:
        walk.note("bytes", "", Kind.VALUE, _digest(a.content), _digest(b.content))


def _note_forms(walk: Walk, a: Document, b: Document) -> None:
    path = "bytes" if Form.BYTES in (a.form, b.form) else "text"
    if b.form is Form.EMPTY:
        walk.note(path, "", Kind.MISSING, _said(a), ABSENT)
    elif a.form is Form.EMPTY:
        walk.note(path, "", Kind.EXTRA, ABSENT, _said(b))
    else:
        walk.note(path, "", Kind.TYPE, _said(a), _said(b))


def _said(document: Document) -> str:
    return "; ".join([document.form.value, *document.problems])


def _walk_text(walk: Walk, a: str, b: str) -> None:
    if a == b:
        return
    ours, theirs = a.splitlines(), b.splitlines()
    for number, (x, y) in enumerate(zip(ours, theirs, strict=False), 1):
        if x != y:
            walk.note("text", f"text line {number}", Kind.VALUE, x, y)
            return
    kind = Kind.LENGTH if len(ours) != len(theirs) else Kind.VALUE
    walk.note("text", "", kind, f"{len(ours)} lines, {len(a)} characters", f"{len(theirs)} lines, {len(b)} characters")


def _digest(body: bytes) -> str:
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}"
