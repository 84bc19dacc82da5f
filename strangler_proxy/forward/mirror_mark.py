"""The mark of a mirrored request: ids, and the one signed field."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import time
from collections.abc import Sequence
from typing import Final

from strangler_proxy.core.shadow_wire import SHADOW_HEADER, ShadowKeys, ShadowRole, request_value

_LINE: Final = SHADOW_HEADER.encode() + b": "
_BLOCK_BYTES: Final = 64
_PURPOSE: Final = b"shadow"


class Marks:
    """Makes ids and marks with one secret, 16 bytes at least. `keys` are those of `core.shadow_wire`.

    The usual mark is signed with two hashes that have read their half of the key already (RFC 2104, section 4): every
    mirrored request has one, and that takes 40 % of the time.
    """

    def __init__(self, secret: bytes) -> None:
        self.keys = ShadowKeys(secret)
        self.clock = time.time
        self._prefix = os.urandom(8).hex()
        self._count = itertools.count(1)
        key = hmac.digest(secret, _PURPOSE, "sha256").ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def new_id(self) -> str:
        """32 hex digits, unique to this process's life."""
        return f"{self._prefix}{next(self._count):016x}"

    def value(
        self, role: ShadowRole, id: str, flag: str, *, body_sha256: str = "", recorded: Sequence[str] = ()
    ) -> str:
        """The value of the mark, signed now."""
        return request_value(
            self.keys,
            role=role,
            id=id,
            at=self.clock(),
            flag=flag,
            body_sha256=body_sha256,
            recorded=recorded,
        )

    def marked(self, head: bytes, id: str, flag: str) -> bytes:
        """A head without a body, marked as mirrored: what `shadow_wire.request_value` writes, in less time."""
        text = b"role=mirror; id=%b; at=%d; flag=%b; body=-; rec=-" % (id.encode(), self.clock(), flag.encode() or b"-")
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return b"%b%b%b; sig=%b\r\n\r\n" % (head[:-2], _LINE, text, outer.hexdigest().encode())
