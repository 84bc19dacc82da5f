"""What the proxy signs: cookies, overrides, the table file. HMAC-SHA256 with one secret, apart by purpose.

A mark made for one purpose is never valid for another: each purpose has a key of its own, derived from the secret.
Formats are specified in docs/reference/wire.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from strangler_proxy.core.stage import Origin

MIN_SECRET_BYTES = 16
_OVERRIDE = "override"
_VISITOR = "visitor"
_OWN_WRITES = "own-writes"
_SHORT = 32
"""Hex digits of a signature in a cookie: 128 bits."""


class Signer:
    """Signs and checks with one secret of at least 16 bytes; raises ValueError for a shorter one.

    >>> signer = Signer(b"0123456789abcdef")
    >>> signer.visitor(signer.visitor_cookie("ada"))
    'ada'
    >>> signer.visitor("ada.00000000000000000000000000000000") is None
    True
    """

    __slots__ = ("_keys", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"signing secret: {len(secret)} bytes are too few, give at least {MIN_SECRET_BYTES}")
        self._secret = secret
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return "<Signer>"

    def sign(self, purpose: str, text: bytes) -> str:
        """64 hex digits. Overrides are signed with the secret itself, so that a caller needs nothing but HMAC."""
        key = self._keys.get(purpose)
        if key is None:
            key = self._secret if purpose == _OVERRIDE else hmac.digest(self._secret, purpose.encode(), hashlib.sha256)
            self._keys[purpose] = key
        return hmac.digest(key, text, hashlib.sha256).hex()

    def verify(self, purpose: str, text: bytes, signature: str) -> bool:
        """Is it the full signature of this text for this purpose? Compared in constant time."""
        return hmac.compare_digest(self.sign(purpose, text).encode(), signature.encode("utf-8", "replace"))

    def visitor_cookie(self, visitor: str) -> str:
        """The value of `strangler_visitor`: the id, a dot, half a signature."""
        return f"{visitor}.{self.sign(_VISITOR, visitor.encode())[:_SHORT]}"

    def visitor(self, value: str) -> str | None:
        """The id in a visitor cookie, None where the signature is not ours."""
        visitor, _, signature = value.rpartition(".")
        return visitor if visitor and self._short_matches(_VISITOR, visitor, signature) else None

    def own_writes_cookie(self, written: Mapping[str, float]) -> str:
        """The value of `strangler_ryw`: when this client wrote, by flag, in Unix seconds of the control database.

        >>> signer = Signer(b"0123456789abcdef")
        >>> signer.own_writes(signer.own_writes_cookie({"f": 12.5}))
        {'f': 12.5}
        """
        text = "/".join(f"{flag}:{round(at * 1000)}" for flag, at in sorted(written.items()))
        return f"{text}~{self.sign(_OWN_WRITES, text.encode())[:_SHORT]}"

    def own_writes(self, value: str) -> dict[str, float]:
        """What a `strangler_ryw` cookie says; empty where the signature is not ours."""
        text, _, signature = value.rpartition("~")
        if not text or not self._short_matches(_OWN_WRITES, text, signature):
            return {}
        written: dict[str, float] = {}
        for part in text.split("/"):
            flag, _, at_ms = part.rpartition(":")
            written[flag] = int(at_ms) / 1000
        return written

    def override(self, flag: str, origin: Origin, expires_at: int) -> str:
        """The value of `X-Strangler-Override` that asks for one origin until a Unix second."""
        text = f"{flag}={origin.value}; exp={expires_at}"
        return f"{text}; sig={self.sign(_OVERRIDE, text.encode())}"

    def read_override(self, value: str, now: float) -> tuple[str, Origin] | None:
        """Flag and origin of a valid override that has not expired; None for anything else."""
        text, found, signature = value.strip().rpartition("; sig=")
        if not found or not self.verify(_OVERRIDE, text.encode("utf-8", "replace"), signature.strip().lower()):
            return None
        choice, _, expiry = text.partition("; exp=")
        flag, _, origin = choice.partition("=")
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12) or int(expiry) < now:
            return None
        try:
            return flag, Origin(origin)
        except ValueError:
            return None

    def _short_matches(self, purpose: str, text: str, signature: str) -> bool:
        wanted = self.sign(purpose, text.encode("utf-8", "replace"))[:_SHORT]
        return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))
