"""What the mirror reads in heads: which bytes of two answers have to be the same, effects, proofs, code versions."""

from __future__ import annotations

from typing import Final

from strangler_proxy.core.fields import NOT_COMPARED
from strangler_proxy.core.headers import AnswerFields, RequestFields
from strangler_proxy.core.pair import RawFields
from strangler_proxy.core.shadow_wire import TOO_LARGE, effects_text
from strangler_proxy.core.strata import is_signed_in

_BY_MEANING: Final = {b"content-type", b"set-cookie", b"content-encoding"}
_LEFT_OUT: Final = frozenset(name.encode() for name in NOT_COMPARED) - _BY_MEANING
"""Differences in these alone are none; where a rule asks for one of them, the sink is not `exact`."""
_EFFECTS: Final = b"x-strangler-effects"
_READ_AT_ONCE_CHARS: Final = 8_192
"""Of both sides' effects together; what is more is for the judge, which has the time to unpack it."""
_PROOF: Final = b"x-strangler-shadow-proof"
_VERSION: Final = b"x-strangler-version"


def compared(fields: AnswerFields) -> tuple[bytes, bytes]:
    """The lines of an answer that have to be the same on both sides, and its Content-Type; worked out once."""
    found = fields.compared
    if found is None:
        kept, kind = [], b""
        lines = fields.lines
        for at in range(0, len(lines), 4):
            low = lines[at].lower()
            if low not in _LEFT_OUT:
                kept.append(low + b":" + lines[at + 2].strip())
            if low == b"content-type" and not kind:
                kind = lines[at + 2].strip()
        found = fields.compared = (b"\n".join(kept), kind)
    return found


def raw_fields(fields: AnswerFields) -> RawFields:
    """The fields of an answer as they came, without those for one hop."""
    lines = fields.lines
    return tuple(zip(lines[0::4], lines[2::4], strict=True))


def request_fields(head: bytes) -> RawFields:
    """The fields of a request's head.

    >>> request_fields(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nX-B:c\\r\\n\\r\\n")
    ((b'Host', b'a'), (b'X-B', b'c'))
    """
    found = []
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip()))
    return tuple(found)


def effects(fields: AnswerFields) -> list[str]:
    """The values of the effects header, in order."""
    return [value.decode("latin-1") for name, value in fields.shadow if name == _EFFECTS]


def are_same_effects(ours: str, theirs: str) -> bool:
    """Do two values of the effects header hold the same effects, as far as that can be seen at once?

    How the rows were before rides along with the side that puts them back, and is no effect. What is too much to be
    read here, or was too much for the side itself, is not called the same.
    """
    if ours == theirs:
        return ours != TOO_LARGE
    if not ours or not theirs or len(ours) + len(theirs) > _READ_AT_ONCE_CHARS:
        return False
    try:
        return effects_text([ours]) == effects_text([theirs])
    except ValueError:
        return False


def proof(fields: AnswerFields) -> str:
    """The value of the proof header, empty where there is none."""
    return next((value.decode("latin-1") for name, value in fields.shadow if name == _PROOF), "")


def code_version(fields: AnswerFields) -> str:
    """What a side says of its code (`X-Strangler-Version`), empty where it says nothing."""
    return next((value.decode("latin-1")[:100] for name, value in fields.shadow if name == _VERSION), "")


def signed_in(fields: RequestFields) -> bool:
    """Does a request carry Authorization or a session cookie? Worked out once for the same fields."""
    known = fields.signed_in
    if known is None:
        known = fields.signed_in = is_signed_in(
            [
                ("authorization", fields.authorization.decode("latin-1")),
                ("cookie", fields.cookie.decode("latin-1")),
            ]
        )
    return known
