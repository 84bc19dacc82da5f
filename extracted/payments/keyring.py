"""Every side's public keys, by which access tokens are verified.

Files: `KID.pub.pem` in one directory, one Ed25519 public key each, by docs/reference/http-api.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.jwk import OKPKey

log = structlog.get_logger()

PUBLIC_SUFFIX = ".pub.pem"
RELOAD_INTERVAL_S = 5.0
"""The directory is looked at for changes at most once in so many seconds."""
MISS_INTERVAL_S = 1.0
"""And for an unknown key id at most once in so many."""

_FILE_BYTES = 16_384

Signature = Mapping[str, tuple[int, int]]


class KeyRing:
    """Every public key by its id, re-read when the directory changes.

    A file that is not an Ed25519 public key is logged and left out; the others go on. A directory that cannot
    be read leaves the keys as they were. The files are few and small: they are read where they are asked for,
    on the event loop. `clock` is monotone seconds.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._seen: Signature | None = None
        self._keys: Mapping[str, OKPKey] = {}
        self._looked_at = clock()
        self._look()

    def __repr__(self) -> str:
        return f"<KeyRing {self._directory} {sorted(self._keys)}>"

    def find(self, kid: str) -> OKPKey | None:
        """The key of that id, or None."""
        interval_s = RELOAD_INTERVAL_S if kid in self._keys else MISS_INTERVAL_S
        now = self._clock()
        if now - self._looked_at >= interval_s:
            self._looked_at = now
            self._look()
        return self._keys.get(kid)

    def _look(self) -> None:
        try:
            files = [path for path in self._directory.iterdir() if path.name.endswith(PUBLIC_SUFFIX)]
            seen = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}
        except OSError as error:
            log.warning("keys.directory_unreadable", error=error.strerror)
            return
        if seen == self._seen:
            return
        keys: dict[str, OKPKey] = {}
        for path in files:
            key = _read_public_key(path)
            if key is not None:
                keys[path.name.removesuffix(PUBLIC_SUFFIX)] = key
        # One assignment: a verification sees all of the old keys or all of the new ones.
        self._keys, self._seen = keys, seen
        log.info("keys.loaded", kids=sorted(keys))


def _read_public_key(path: Path) -> OKPKey | None:
    try:
        with path.open("rb") as file:
            key = serialization.load_pem_public_key(file.read(_FILE_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        log.warning("keys.file_refused", file=path.name, reason="not an Ed25519 public key in PEM")
        return None
    return OKPKey.import_key(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
