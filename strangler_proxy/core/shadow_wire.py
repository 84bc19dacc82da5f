"""Shadow mode on the wire: the marked request, the effects in an answer, and the proof that they were captured.

A request that carries `X-Strangler-Shadow` asks the side it reaches for one of two things. `record`: do what is asked,
really, and say which effects it had. `mirror`: run it and leave nothing behind: capture the effects, answer from the
ones that the other side recorded (`X-Strangler-Recorded`), roll back. The answer carries `X-Strangler-Effects` and
`X-Strangler-Shadow-Proof`, which only the holder of the secret can make, for this request and these effects.

Plain Python 3.9 and standard library only: `contrib` ships this to older stacks. Specified in docs/reference/wire.md.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SHADOW_HEADER: Final = "X-Strangler-Shadow"
RECORDED_HEADER: Final = "X-Strangler-Recorded"
EFFECTS_HEADER: Final = "X-Strangler-Effects"
PROOF_HEADER: Final = "X-Strangler-Shadow-Proof"

WINDOW_S: Final = 60
"""How far a mark's time may be from the reader's clock, either way."""
PART_CHARS: Final = 6_000
"""Of one field's value at most: servers take 8 KB."""
PARTS: Final = 4
"""Fields at most; what needs more is said as `too_large`."""
EFFECTS_BYTES: Final = 4_000_000
"""Of the JSON text at most, so that a small field cannot unpack into all of the memory."""
TOO_LARGE: Final = "too_large"
NOTHING: Final = "-"
MIN_SECRET_BYTES: Final = 16

_REQUEST = "shadow"
_PROOF = "shadow-proof"
_MARK = re.compile(
    r"role=(record|mirror); id=([0-9a-f]{32}); at=([0-9]{1,12}); flag=(-|[A-Za-z0-9_][A-Za-z0-9_.-]{0,62});"
    r" body=(-|[0-9a-f]{64}); rec=(-|[0-9a-f]{64}); sig=([0-9a-f]{64})\Z"
)
_ID = re.compile(r"[0-9a-f]{32}\Z")
_FLAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
_KIND = re.compile(r"[a-z][a-z_]{0,19}\Z")
_PART = re.compile(r"([1-9])/([1-9]); ?([A-Za-z0-9+/=]+)\Z")


class ShadowRole(str, enum.Enum):  # noqa: UP042  (StrEnum is Python 3.11)
    """What a marked request asks for. Equal to its word: `ShadowRole.MIRROR == "mirror"`."""

    RECORD = "record"  # perform, and report
    MIRROR = "mirror"  # capture instead of perform, roll back, and report


class EffectsTooLarge(ValueError):
    """The side captured more effects than an answer carries."""


class ShadowKeys:
    """Signs marks and proofs with one secret of at least 16 bytes; raises ValueError for a shorter one.

    The keys are those of `core.signing.Signer` for the purposes `shadow` and `shadow-proof`.
    """

    __slots__ = ("_proof", "_request")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"signing secret: {len(secret)} bytes are too few, give at least {MIN_SECRET_BYTES}")
        self._request = hmac.digest(secret, _REQUEST.encode(), "sha256")
        self._proof = hmac.digest(secret, _PROOF.encode(), "sha256")

    def __repr__(self) -> str:
        return "<ShadowKeys>"

    def sign_request(self, text: str) -> str:
        """64 hex digits of a mark's text."""
        return hmac.digest(self._request, text.encode(), "sha256").hex()

    def sign_proof(self, text: str) -> str:
        """64 hex digits of a proof's text."""
        return hmac.digest(self._proof, text.encode(), "sha256").hex()


@dataclass(frozen=True)
class ShadowRequest:
    """A valid mark. `at` is Unix seconds; `flag` is empty where no table names one.

    `body_sha256` and `recorded_sha256` are hex, empty where the mark says nothing of a body or of recorded effects.
    """

    role: ShadowRole
    id: str
    at: int
    flag: str
    body_sha256: str
    recorded_sha256: str

    def fits_body(self, body: bytes) -> bool:
        """Is this the body that was marked? True for any where the mark names none."""
        return not self.body_sha256 or hmac.compare_digest(self.body_sha256, digest_of(body))

    def fits_recorded(self, values: Sequence[str]) -> bool:
        """Are these the recorded effects that were marked? None must be there where the mark names none."""
        if not self.recorded_sha256:
            return not values
        return bool(values) and hmac.compare_digest(self.recorded_sha256, effects_digest(values))


def digest_of(body: bytes) -> str:
    """SHA-256 of a body, 64 hex digits."""
    return hashlib.sha256(body).hexdigest()


def request_value(
    keys: ShadowKeys,
    *,
    role: ShadowRole | str,
    id: str,
    at: float,
    flag: str = "",
    body_sha256: str = "",
    recorded: Sequence[str] = (),
) -> str:
    """The value of `X-Strangler-Shadow`.

    `id` is 32 lower-case hex digits, of this one request to this one side; `at` Unix seconds; `flag` and `body_sha256`
    empty (or `-`) where there is none; `recorded` are the values of `X-Strangler-Recorded` that go along. Raises
    ValueError for a value that a reader would not take.

    >>> keys = ShadowKeys(b"0123456789abcdef")
    >>> value = request_value(keys, role="mirror", id="0f" * 16, at=1700000000.5, flag="payments")
    >>> read_request(keys, value, now=1700000010).flag
    'payments'
    """
    recorded_sha256 = effects_digest(recorded) if recorded else NOTHING
    text = (
        f"role={ShadowRole(role).value}; id={id}; at={int(at)}; flag={flag or NOTHING};"
        f" body={body_sha256 or NOTHING}; rec={recorded_sha256}"
    )
    value = f"{text}; sig={keys.sign_request(text)}"
    if _MARK.match(value) is None:
        raise ValueError(f"not a mark of shadow mode: {text}")
    return value


def read_request(keys: ShadowKeys, value: str, *, now: float, window_s: float = WINDOW_S) -> ShadowRequest | None:
    """Read a mark; None where it is forged, changed, or from outside `window_s` seconds around `now`.

    That an id is seen once only is for `SeenIds`; the body and the recorded effects are for `fits_body` and
    `fits_recorded`.
    """
    text, _, signature = value.rpartition("; sig=")
    wanted = keys.sign_request(text.encode("utf-8", "replace").decode())
    if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
        return None
    match = _MARK.match(value)
    if match is None:
        return None
    role, id_, at, flag, body, recorded, _ = match.groups()
    if abs(now - int(at)) > window_s:
        return None
    return ShadowRequest(
        role=ShadowRole(role),
        id=id_,
        at=int(at),
        flag=_given(flag),
        body_sha256=_given(body),
        recorded_sha256=_given(recorded),
    )


class SeenIds:
    """The ids of marks seen, so that none is taken twice. For one thread at a time; bounded.

    Holds up to `kept` ids. Where more come within the window, the oldest seconds are forgotten *and from then on
    refused*: a bound must not open a way to replay.

    >>> seen = SeenIds(60, 1000)
    >>> seen.first("0f" * 16, 1700000000), seen.first("0f" * 16, 1700000000)
    (True, False)
    """

    __slots__ = ("_by_second", "_count", "_floor", "_kept", "_window_s")

    def __init__(self, window_s: float = WINDOW_S, kept: int = 100_000) -> None:
        self._window_s = window_s
        self._kept = kept
        self._by_second: dict[int, set[str]] = {}
        self._count = 0
        self._floor = -1

    def __repr__(self) -> str:
        return f"<SeenIds {self._count} since {self._floor + 1}>"

    def first(self, id: str, at: float) -> bool:
        """Is this id new? True once. `at` is the mark's, checked against the clock before."""
        second = int(at)
        if second <= self._floor:
            return False
        ids = self._by_second.get(second)
        if ids is None:
            ids = self._by_second[second] = set()
            # A mark from the future is valid until its window ends, so twice the window is kept.
            self._forget(before=max(self._by_second) - 2 * int(self._window_s) - 1)
        if id in ids:
            return False
        ids.add(id)
        self._count += 1
        while self._count > self._kept:
            self._forget(before=min(self._by_second) + 1)
        return True

    def _forget(self, before: int) -> None:
        for second in [second for second in self._by_second if second < before]:
            self._count -= len(self._by_second.pop(second))
        self._floor = max(self._floor, before - 1)


def encode_effects(effects: Iterable[Mapping[str, Any]], undo: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """The values of `X-Strangler-Effects` (or `-Recorded`): one to four, or `too_large` alone.

    Each effect is `{"kind": ..., "detail": ...}`, its detail JSON (no NaN). Raises ValueError or TypeError otherwise.
    `undo` says how the rows were before; it rides along for the side that has to put them back, and is not an effect.

    >>> decode_effects(encode_effects([{"kind": "mail", "detail": {"to": ["ada@example.org"]}}]))
    [{'kind': 'mail', 'detail': {'to': ['ada@example.org']}}]
    """
    listed = [_effect(effect) for effect in effects]
    text = _json(listed)
    if undo:
        text += b"\n" + _json(list(undo))
    if len(text) > EFFECTS_BYTES:
        return [TOO_LARGE]
    packed = base64.b64encode(zlib.compress(text, 6)).decode()
    room = PART_CHARS - len("1/4; ")
    pieces = [packed[start : start + room] for start in range(0, len(packed), room)]
    if len(pieces) > PARTS:
        return [TOO_LARGE]
    return [f"{part}/{len(pieces)}; {piece}" for part, piece in enumerate(pieces, 1)]


def decode_effects(values: Iterable[str]) -> list[dict[str, Any]]:
    """Read the effects in the fields' values, which may be in any order, joined by commas or not.

    Raises EffectsTooLarge where the side said so, ValueError (its base) for anything that is not what `encode_effects`
    makes: a missing part, a text that unpacks into more than 4 MB, a wrong shape.
    """
    try:
        listed = json.loads(effects_text(values))
    except RecursionError:
        raise ValueError("effects: nested too deep") from None
    if not isinstance(listed, list):
        raise ValueError("effects: not a list")
    return [_effect(effect) for effect in listed]


def decode_undo(values: Iterable[str]) -> list[dict[str, Any]]:
    """How the rows were before, newest last; empty where the side did not say. Raises as `decode_effects`."""
    try:
        listed = json.loads(_unpacked(values).partition("\n")[2] or "[]")
    except RecursionError:
        raise ValueError("effects: nested too deep") from None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("effects: what is to be undone is not a list of objects")
    return listed


def effects_text(values: Iterable[str]) -> str:
    """The JSON text of the effects, unread: for a reader of numbers that keeps them exact. Raises as above."""
    return _unpacked(values).partition("\n")[0]


def _unpacked(values: Iterable[str]) -> str:
    given = _separate(values)
    if not given:
        raise ValueError("effects: nothing there")
    if TOO_LARGE in given:
        raise EffectsTooLarge("effects: too many or too large for an answer")
    pieces: dict[int, str] = {}
    for value in given:
        match = _PART.match(value)
        if match is None or len(value) > PART_CHARS:
            raise ValueError("effects: not a part of them")
        part, parts = int(match.group(1)), int(match.group(2))
        if parts != len(given) or part > parts or parts > PARTS or part in pieces:
            raise ValueError(f"effects: part {part} of {parts} among {len(given)} fields")
        pieces[part] = match.group(3)
    try:
        packed = base64.b64decode("".join(pieces[part] for part in sorted(pieces)), validate=True)
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, EFFECTS_BYTES + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"effects: {error}") from None
    if len(text) > EFFECTS_BYTES:
        raise EffectsTooLarge("effects: unpack into too much")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("effects: cut off, or with more behind")
    return text.decode("utf-8")


def effects_digest(values: Iterable[str]) -> str:
    """SHA-256 of the fields' values, 64 hex digits: the same whether the fields were joined by commas or not."""
    return hashlib.sha256(", ".join(_separate(values)).encode("utf-8", "replace")).hexdigest()


def proof_value(keys: ShadowKeys, request: ShadowRequest, effects_values: Sequence[str]) -> str:
    """The value of `X-Strangler-Shadow-Proof`: this side kept to the role of this request, with these effects."""
    return keys.sign_proof(_proof_text(request.id, request.role, effects_values))


def proven(
    keys: ShadowKeys, *, id: str, role: ShadowRole | str, effects_values: Sequence[str], proof: str | None
) -> bool:
    """Did the side prove it? False for no proof, a forged one, one of another request or of other effects."""
    if not proof or not effects_values or _ID.match(id) is None:
        return False
    wanted = keys.sign_proof(_proof_text(id, ShadowRole(role), effects_values))
    return hmac.compare_digest(wanted.encode(), proof.strip().encode("utf-8", "replace"))


def valid_flag(flag: str) -> bool:
    """May a mark name this flag?"""
    return _FLAG.match(flag) is not None


def _proof_text(id_: str, role: ShadowRole, effects_values: Sequence[str]) -> str:
    return f"id={id_}; role={role.value}; effects={effects_digest(effects_values)}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, sort_keys=True).encode()


def _separate(values: Iterable[str]) -> list[str]:
    return [piece.strip() for value in values for piece in value.split(",") if piece.strip()]


def _effect(effect: object) -> dict[str, Any]:
    if not isinstance(effect, Mapping) or not {"kind"} <= set(effect) <= {"kind", "detail"}:
        raise ValueError("effects: one of them is not a kind with a detail")
    kind = effect["kind"]
    if not isinstance(kind, str) or _KIND.match(kind) is None:
        raise ValueError("effects: one has a kind that is no word")
    return {"kind": kind, "detail": effect.get("detail")}


def _given(text: str) -> str:
    return "" if text == NOTHING else text
