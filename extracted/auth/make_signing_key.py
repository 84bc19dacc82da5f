"""Make the key pair that signs access tokens: `python -m extracted.auth.make_signing_key --kid auth-1 --dir var/keys`.

Writes `KID.pem` (private, mode 0600) and `KID.pub.pem`. A pair that is there stays; a public half that is
missing is written again.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class BadKeyRequest(Exception):
    """The pair cannot be made; the message says why."""


def make_signing_key(kid: str, directory: Path) -> tuple[Path, Path]:
    """Make the pair unless it is there; the paths of the private and the public file. Raises `BadKeyRequest`."""
    if not _KID.fullmatch(kid):
        raise BadKeyRequest(f"key id {kid!r}: use 1 to 64 letters, digits, - or _ (no dot: it ends at the first one)")
    private, public = directory / f"{kid}.pem", directory / f"{kid}.pub.pem"
    directory.mkdir(parents=True, exist_ok=True)
    if not private.exists():
        key = Ed25519PrivateKey.generate()
        _publish(private, _private_pem(key), mode=0o600)
    pem = _public_pem(private)
    if not public.exists() or public.read_bytes() != pem:
        _publish(public, pem, mode=0o644)
    return private, public


def _publish(path: Path, content: bytes, *, mode: int) -> None:
    # Written aside and linked: a reader never sees half a key, and of two makers the first one's key stays.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if mode == 0o600:
            try:
                os.link(aside, path)
            except FileExistsError:
                return
        else:
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_pem(private: Path) -> bytes:
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadKeyRequest(f"{private} is not an unencrypted PEM private key; move it away and try again") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeyRequest(f"{private} is not an Ed25519 key; move it away and try again")
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def main() -> int:
    """The command; 0, or 2 for a bad request."""
    parser = argparse.ArgumentParser(description="Make an Ed25519 key pair for access tokens.")
    parser.add_argument("--kid", required=True, help="key id, for example auth-1")
    parser.add_argument("--dir", required=True, type=Path, help="folder for KID.pem and KID.pub.pem")
    arguments = parser.parse_args()
    try:
        private, public = make_signing_key(arguments.kid, arguments.dir)
    except BadKeyRequest as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{private}\n{public}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
