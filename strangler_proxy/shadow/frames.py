"""Frames between a proxy process and its judge: four bytes of length, then a tuple of plain values in marshal's form.

Both ends are one program of one version, started from each other, on a socket pair that nobody else can open. So the
form need not outlive the process, and marshal is the fastest that the standard library has: one call in C for the
whole tuple, no names, and reading it makes values only. Never read marshal from a file or from anybody else.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Callable
from typing import Any, Final

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer, Pair, Side
from strangler_proxy.core.stage import Origin

# Proxy to judge.
HELLO: Final = 0  # settings, writer
NOTES: Final = 1  # window, Unix seconds, rows, counts by flag and fate; the last frame of its window
PAIR: Final = 2  # chosen at random for A/A?, pair
ASKED: Final = 3  # token, control's answer or None, candidate's answer or None
END: Final = 4  # seconds that are left
# Judge to proxy.
ASK: Final = 10  # token, sides, what is needed of the pair
KEPT: Final = 11  # window: all up to it is in the evidence
EXACT: Final = 12  # may equal answers be counted unseen?
FACTS: Final = 13  # counts since it started, by name
ENDED: Final = 14
READY: Final = 15  # the evidence is open: from now on it judges

FRAME_BYTES: Final = 64 * 1024 * 1024
"""A longer frame is none: whoever sent it is broken."""

BOTH: Final = (Side.CONTROL, Side.CANDIDATE)

NoteKey = tuple[str, str, str, bytes, bool, int, bytes, str]
"""flag, route, method, path, signed in, status, content type, fate."""
Row = tuple[NoteKey, int, int, list[float]]
"""So many requests; the times of each one, or each second, fourth, ... of them: which, and milliseconds, the control's
and the candidate's in turn."""

_LENGTH: Final = struct.Struct("<I")
_FORM: Final = 2  # without back references, which cost more to find than they save
_FAILURES: Final = {each.value: each for each in Failure}
_ORIGINS: Final = {each.value: each for each in Origin}


class BrokenFrame(Exception):
    """The other end sent what is no frame."""


def frame(*message: Any) -> bytes:
    """A message as bytes. Raises ValueError for a value that is not plain."""
    body = marshal.dumps(message, _FORM)
    return _LENGTH.pack(len(body)) + body


def pair_frame(pair: Pair, chosen: bool) -> bytes:
    """A pair as a PAIR frame."""
    return frame(
        PAIR,
        chosen,
        (
            pair.id,
            pair.flag,
            pair.route,
            pair.method,
            pair.target,
            pair.fields,
            pair.body,
            pair.safe,
            pair.at,
            pair.control_origin.value,
            answer_values(pair.control),
            answer_values(pair.candidate),
        ),
    )


def answer_values(answer: Answer) -> tuple[Any, ...]:
    """An answer as plain values."""
    failure = answer.failure
    return (
        answer.status,
        answer.fields,
        answer.body,
        answer.body_bytes,
        answer.truncated,
        answer.duration_ms,
        "" if failure is None else failure.value,
        answer.effects,
        answer.code_version,
    )


def read_answer(values: tuple[Any, ...]) -> Answer:
    """An answer from `answer_values`."""
    status, fields, body, body_bytes, truncated, duration_ms, failure, effects, code_version = values
    return Answer(
        status=status,
        fields=fields,
        body=body,
        body_bytes=body_bytes,
        truncated=truncated,
        duration_ms=duration_ms,
        failure=_FAILURES.get(failure),
        effects=effects,
        code_version=code_version,
    )


def read_pair(values: tuple[Any, ...]) -> Pair:
    """A pair from the values of a PAIR frame."""
    id_, flag, route, method, target, fields, body, safe, at, origin, control, candidate = values
    return Pair(
        id=id_,
        flag=flag,
        route=route,
        method=method,
        target=target,
        fields=fields,
        body=body,
        safe=safe,
        at=at,
        control_origin=_ORIGINS[origin],
        control=read_answer(control),
        candidate=read_answer(candidate),
    )


def asked_of(pair: Pair) -> tuple[Any, ...]:
    """What is needed of a pair to ask again, as plain values."""
    return (
        pair.id,
        pair.flag,
        pair.route,
        pair.method,
        pair.target,
        pair.fields,
        pair.body,
        pair.at,
        pair.control_origin.value,
    )


def read_asked_of(values: tuple[Any, ...]) -> Pair:
    """A safe pair without answers, from `asked_of`."""
    id_, flag, route, method, target, fields, body, at, origin = values
    return Pair(
        id=id_,
        flag=flag,
        route=route,
        method=method,
        target=target,
        fields=fields,
        body=body,
        safe=True,
        at=at,
        control_origin=_ORIGINS[origin],
        control=Answer(),
        candidate=Answer(),
    )


class FrameReader:
    """Takes bytes as they come and gives each whole message to `heard`."""

    __slots__ = ("_buffer", "_heard")

    def __init__(self, heard: Callable[[tuple[Any, ...], int], None]) -> None:
        self._buffer = bytearray()
        self._heard = heard

    def feed(self, data: bytes) -> None:
        """More bytes; `heard` gets each message and its size. Raises BrokenFrame."""
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        view = memoryview(buffer)
        try:
            while end - start >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(view, start)
                if size > FRAME_BYTES:
                    raise BrokenFrame(f"a frame of {size} bytes")
                if end - start - _LENGTH.size < size:
                    break
                start += _LENGTH.size
                try:
                    message = marshal.loads(view[start : start + size])
                except (ValueError, EOFError, TypeError) as error:
                    raise BrokenFrame(str(error)) from error
                start += size
                self._heard(message, size)
        finally:
            view.release()
            if start:
                del buffer[:start]
