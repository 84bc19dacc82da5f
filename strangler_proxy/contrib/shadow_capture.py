"""What one marked request of shadow mode did beside answering: a `Capture`, kept in a contextvar.

Whatever has an effect asks `current` for it. In the role `record` the effect happens, and is noted. In the role
`mirror` it is noted and does *not* happen. After a mirrored request has ended, what still runs in its context (a task
that was left behind, a thread) is refused with `NotCaptured`: it must never begin to have effects.

Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import base64
import contextvars
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from strangler_proxy.contrib.shadow_rows import RowsTooLarge, effects_of
from strangler_proxy.core.shadow_wire import TOO_LARGE, ShadowRequest, ShadowRole, encode_effects

EFFECTS_KEPT = 1_000
"""Of one request; with more it is told as `too_large`."""
DETAIL_CHARS = 65_536
"""Of one effect's detail; a longer one stands there as its length and beginning."""
_DEPTH = 20
_BEGINNING_CHARS = 1_000


class NotCaptured(Exception):
    """Refused in a mirrored request: this effect cannot be captured, or the request has ended."""


class Capture:
    """The effects of one marked request, in the order in which they happened. May be used from several threads."""

    def __init__(
        self,
        request: ShadowRequest,
        recorded: Sequence[Mapping[str, Any]] = (),
        undo: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.request = request
        self.recorded = list(recorded)
        """What the other side's answer said that it did; empty where nothing was sent along."""
        self._undo_given = list(undo)
        self._undo: list[Mapping[str, Any]] = []
        self.ended = False
        self.unproven_reasons: list[str] = []
        self._effects: list[dict[str, Any]] = []
        self._values: list[str] | None = None
        self._kept: dict[Any, Any] = {}
        self._used: set[int] = set()
        self._overflow = False
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Capture {self.role.value} {self.request.id} effects={len(self._effects)} ended={self.ended}>"

    @property
    def role(self) -> ShadowRole:
        """What the mark asks for."""
        return self.request.role

    @property
    def mirrors(self) -> bool:
        """Must effects be captured *instead of* performed?"""
        return self.request.role is ShadowRole.MIRROR

    @property
    def effects(self) -> list[dict[str, Any]]:
        """A copy of what was noted so far."""
        with self._lock:
            return [dict(effect) for effect in self._effects]

    def note(self, kind: str, detail: Any) -> dict[str, Any]:
        """Note an effect; `detail` becomes JSON. The noted effect, whose `detail` may be replaced until it is told.

        Raises NotCaptured after a mirrored request has ended.
        """
        self.refuse_when_ended(kind)
        effect = {"kind": kind, "detail": plain(detail)}
        with self._lock:
            if len(self._effects) < EFFECTS_KEPT:
                self._effects.append(effect)
            else:
                self._overflow = True
        return effect

    def note_rows(self, text: str | None) -> None:
        """Note what a transaction told of its rows (`shadow_rows.READ_ROWS`)."""
        try:
            effects = effects_of(text)
        except RowsTooLarge:
            with self._lock:
                self._overflow = True
            return
        for effect in effects:
            self.note(effect["kind"], effect["detail"])
            if not self.mirrors and "undo" in effect:
                with self._lock:
                    self._undo.append(effect["undo"])

    def refuse_when_ended(self, what: str) -> None:
        """Raise NotCaptured where this is mirrored and over."""
        if self.ended and self.mirrors:
            raise NotCaptured(f"{what}: the mirrored request has ended")

    def unproven(self, reason: str) -> None:
        """Something could not be captured: the answer carries no proof."""
        with self._lock:
            self.unproven_reasons.append(reason)

    def told(self) -> list[str]:
        """The values of `X-Strangler-Effects`, frozen at the first call: when the answer's first byte leaves.

        What happens later (a streamed body, a task behind the answer) is captured, and told on neither side.
        """
        with self._lock:
            if self._values is None:
                self._values = [TOO_LARGE] if self._overflow else encode_effects(self._effects, self._undo)
            return list(self._values)

    def end(self) -> None:
        """The request is over; what still runs in its context is refused."""
        self.ended = True

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that lives as long as the request: made at the first call with that key."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    @contextmanager
    def outermost(self, kind: str) -> Iterator[bool]:
        """True where no block of this kind is around, in this task or thread: the outer one notes, not the inner."""
        inside = _inside.get()
        token = _inside.set(inside | {kind})
        try:
            yield kind not in inside
        finally:
            _inside.reset(token)

    def take_recorded(self, kind: str, score: Callable[[Any], int]) -> Any:
        """The detail of the recorded effect of this kind with the highest score above 0; None where there is none.

        Each is given once, as long as there are others; a call that is made again gets the same answer again.
        """
        with self._lock:
            rated = [
                (score(effect.get("detail")), place not in self._used, -place)
                for place, effect in enumerate(self.recorded)
                if effect.get("kind") == kind
            ]
            fitting = [rate for rate in rated if rate[0] > 0]
            if not fitting:
                return None
            unused = [rate for rate in fitting if rate[1]]
            place = -max(unused or fitting)[2]
            self._used.add(place)
            return self.recorded[place].get("detail")

    def recorded_rows_json(self) -> str:
        """How the other side's rows were before, as the text that `shadow_rows.REWIND` takes; empty for none."""
        return json.dumps(self._undo_given) if self._undo_given else ""


current: ContextVar[Capture | None] = ContextVar("strangler_capture", default=None)
"""The capture of the marked request under way; None outside of one, and in every request that is not marked."""

_inside: ContextVar[frozenset[str]] = ContextVar("strangler_capture_inside", default=frozenset())


def refusal(what: str) -> NotCaptured:
    """Note, for the report, that code tried what cannot be captured; the error to raise."""
    capture = current.get()
    if capture is not None:
        capture.note("refused", {"what": what})
    return NotCaptured(what)


@contextmanager
def capturing(capture: Capture) -> Iterator[Capture]:
    """Within it, `capture` is the current one; ended afterwards. Contexts copied within keep it, and are refused."""
    token = current.set(capture)
    try:
        yield capture
    finally:
        capture.end()
        current.reset(token)


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that says what `value` is, bounded; never raises for what code may pass around.

    >>> plain({"at": datetime(2026, 1, 2, tzinfo=timezone.utc), "sum": Decimal("1.10"), 7: {3}})
    {'at': '2026-01-02T00:00:00+00:00', 'sum': '1.10', '7': [3]}
    """
    if value is None or isinstance(value, (bool, str)):
        return value if not isinstance(value, str) or len(value) <= DETAIL_CHARS else _cut(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if depth >= _DEPTH:
        return f"({type(value).__name__})"
    if isinstance(value, Mapping):
        return {str(key): plain(each, depth + 1) for key, each in list(value.items())[:EFFECTS_KEPT]}
    if isinstance(value, (list, tuple)):
        return [plain(each, depth + 1) for each in value[:EFFECTS_KEPT]]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(each, depth + 1) for each in list(value)[:EFFECTS_KEPT]), key=repr)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return (value.astimezone(timezone.utc) if value.tzinfo else value).isoformat()  # noqa: UP017  (UTC is 3.11)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            return _cut(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return _cut("base64:" + base64.b64encode(raw).decode())
    if isinstance(value, (Decimal, UUID, timedelta)):
        return str(value)
    return f"({type(value).__name__})"  # its repr may hold an address of memory, which differs each time


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_CHARS else f"{text[:_BEGINNING_CHARS]}... ({len(text)} characters)"


def in_context(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with the capture of here and now, wherever it is called: for a thread that code starts by itself."""
    context = contextvars.copy_context()
    return lambda *args, **kwargs: context.copy().run(run, *args, **kwargs)
