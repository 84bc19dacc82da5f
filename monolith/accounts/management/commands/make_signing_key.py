"""`manage.py make_signing_key`: the key pair that signs this side's access tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Safe to repeat: a pair that is there stays; a public half that is missing is written again."""

    help = "Make the Ed25519 key pair at SHOP_SIGNING_KEY_FILE, its public half in SHOP_PUBLIC_KEYS_DIR."
    requires_system_checks = []
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        """Write `KID.pem` (mode 0600) and `KID.pub.pem`."""
        private: Path = settings.ENVIRONMENT.signing_key_file
        public = settings.ENVIRONMENT.public_keys_dir / f"{private.name.partition('.')[0]}.pub.pem"
        for path in (private, public):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not private.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _publish(private, pem, 0o600)
        key = _read(private)
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if not public.exists() or public.read_bytes() != pem:
            _publish(public, pem, 0o644)
        self.stdout.write(f"{private}\n{public}")


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{path} is not an unencrypted PEM private key; move it away and try again") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandError(f"{path} is not an Ed25519 key; move it away and try again")
    return key


def _publish(path: Path, content: bytes, mode: int) -> None:
    # Written aside: a reader never sees half a key. Linked where it is private: of two makers the first one's stays.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    try:
        if mode == 0o600:
            os.link(aside, path)
        else:
            aside.replace(path)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)
