"""The keys of access tokens: our own private one, and every side's public ones."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

LOOK_AGAIN_S = 1.0
"""Unknown key ids cannot make us read the folder more often than this."""


class NoSigningKey(Exception):
    """This side's private key cannot be read: no access token can be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and its id (the file's name up to the first dot)."""

    kid: str
    key: OKPKey


def read_signing_key(path: Path) -> SigningKey:
    """Read an Ed25519 private key in PEM; raises `NoSigningKey`."""
    try:
        key = OKPKey.import_key(path.read_bytes())
    except (OSError, ValueError, JoseError) as error:
        raise NoSigningKey(f"{path}: {error}; make one with: manage.py make_signing_key") from error
    if not key.is_private or key.curve_name != "Ed25519":
        raise NoSigningKey(f"{path}: not an Ed25519 private key")
    return SigningKey(kid=path.name.split(".")[0], key=key)


class PublicKeys:
    """Every `KID.pub.pem` of a folder, looked at again (at most once a second) when an id is unknown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._keys: dict[str, OKPKey] = {}
        self._read_at = float("-inf")

    def find(self, kid: str) -> OKPKey | None:
        """The key with that id, or None."""
        key = self._keys.get(kid)
        if key is None:
            with self._lock:
                if time.monotonic() - self._read_at >= LOOK_AGAIN_S:
                    self._keys = self._read()
                    self._read_at = time.monotonic()
                key = self._keys.get(kid)
        return key

    def _read(self) -> dict[str, OKPKey]:
        keys = {}
        for path in sorted(self._folder.glob("*.pub.pem")):
            try:
                key = OKPKey.import_key(path.read_bytes())
            except (OSError, ValueError, JoseError):
                continue  # one broken file must not lock everybody out; its tokens are refused
            if key.curve_name == "Ed25519":
                keys[path.name.split(".")[0]] = key
        return keys


@cache
def signing_key() -> SigningKey:
    """This process's private key; raises `NoSigningKey`."""
    return read_signing_key(settings.ENVIRONMENT.signing_key_file)


@cache
def public_keys() -> PublicKeys:
    """Every side's public keys."""
    return PublicKeys(settings.ENVIRONMENT.public_keys_dir)
