"""Signing keys: the service's own private key, and every side's public key.

Files: `KID.pub.pem` in one directory, one Ed25519 public key each; the private key is any PEM file, and its
key id is the file's name up to the first dot. Both by docs/reference/http-api.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey

log = structlog.get_logger()

PUBLIC_SUFFIX = ".pub.pem"
RELOAD_INTERVAL_S = 5.0
"""At most one look at the directory in so many seconds for unknown key ids, and one for changes."""

_FILE_BYTES = 16_384

Signature = Mapping[str, tuple[int, int]]


class BadSigningKey(Exception):
    """The private key cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The service's own key pair."""

    kid: str
    private: OKPKey
    public: OKPKey


def load_signing_key(path: Path) -> SigningKey:
    """Read the private key; raises `BadSigningKey`."""
    kid = path.name.partition(".")[0]
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadSigningKey(
            f"signing key {path}: {error.strerror}; make one with `python -m extracted.auth.make_signing_key`"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadSigningKey(f"signing key {path}: not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSigningKey(f"signing key {path}: not an Ed25519 key")
    return SigningKey(kid=kid, private=OKPKey.import_key(_private_pem(key)), public=_public_key(key.public_key()))


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_key(key: Ed25519PublicKey) -> OKPKey:
    return OKPKey.import_key(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


class KeyRing:
    """Every public key by its id, re-read when the directory changes.

    A file that is not an Ed25519 public key is logged and left out; the others go on. A directory that cannot
    be read leaves the keys as they were. The files are few and small: they are read where they are asked for,
    on the event loop. `clock` is monotone seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        own: SigningKey | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._own: dict[str, OKPKey] = {own.kid: own.public} if own else {}
        self._clock = clock
        self._seen: Signature | None = None
        self._keys: Mapping[str, OKPKey] = self._own
        self._looked_at = self._missed_at = clock()
        self._look()
        self._missed_at -= RELOAD_INTERVAL_S

    def __repr__(self) -> str:
        return f"<KeyRing {self._directory} {sorted(self._keys)}>"

    @property
    def kids(self) -> frozenset[str]:
        """The key ids known now."""
        return frozenset(self._keys)

    def find(self, kid: str) -> OKPKey | None:
        """The key of that id, or None. Looks at the directory as often as `RELOAD_INTERVAL_S` allows."""
        now = self._clock()
        if now - self._looked_at >= RELOAD_INTERVAL_S:
            self._looked_at = now
            self._look()
        key = self._keys.get(kid)
        if key is None and now - self._missed_at >= RELOAD_INTERVAL_S:
            self._missed_at = now
            self._look()
            key = self._keys.get(kid)
        return key

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
        self._keys = {**keys, **self._own}
        self._seen = seen
        log.info("keys.loaded", kids=sorted(self._keys))


def _read_public_key(path: Path) -> OKPKey | None:
    try:
        with path.open("rb") as file:
            key = serialization.load_pem_public_key(file.read(_FILE_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        log.warning("keys.file_refused", file=path.name, reason="not an Ed25519 public key in PEM")
        return None
    return _public_key(key)
