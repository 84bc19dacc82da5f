"""Passwords in Django's encoded format, without Django.

A port of the formats of `django.contrib.auth.hashers` (Django 5.2): `pbkdf2_sha256`, `pbkdf2_sha1`, `scrypt`
and `argon2` verify; new ones are `pbkdf2_sha256`. Pure but for the salt's randomness, and slow on purpose:
call these through `hashing.HashingPool`, never on the event loop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
from collections.abc import Callable, Mapping

from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, verify_secret

ALGORITHM = "pbkdf2_sha256"
SALT_CHARACTERS = 22
"""As Django's: 22 of 62 letters and digits are 131 bits."""

_SALT_ALPHABET = string.ascii_letters + string.digits
_SCRYPT_BYTES = 64
_SCRYPT_MEMORY_LIMIT_BYTES = 256 * 1024 * 1024
_ARGON2_TYPES = {"argon2id": Type.ID, "argon2i": Type.I, "argon2d": Type.D}


def encode(password: str, *, iterations: int, salt: str | None = None) -> str:
    """The encoded form of a password, 88 characters with six digits of iterations; a fresh salt unless given.

    >>> encode("correct horse", iterations=1, salt="salt")
    'pbkdf2_sha256$1$salt$xOEfG6ymEDJ8fNSD2M6IJ0r8bE5FeVaxgYMnZIVZPek='
    """
    salt = "".join(secrets.choice(_SALT_ALPHABET) for _ in range(SALT_CHARACTERS)) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), iterations)
    return f"{ALGORITHM}${iterations}${salt}${base64.b64encode(digest).decode('ascii')}"


def verify(password: str, encoded: str, *, iterations: int) -> bool:
    """Whether the password is the one that was encoded.

    Never raises for what stands in `encoded`: an unusable password (`!...`), an unknown algorithm and a
    damaged value are all False. Costs at least `iterations` rounds of `pbkdf2_sha256` wherever that format
    or nothing usable is stored, so that the time it takes does not tell which accounts exist.
    """
    algorithm, _, rest = encoded.partition("$")
    check = _CHECKS.get(algorithm)
    if check is None:
        burn(password, iterations=iterations)
        return False
    try:
        right = check(password, rest)
    except (ValueError, OverflowError, MemoryError):
        burn(password, iterations=iterations)
        return False
    if algorithm == ALGORITHM:
        missing = iterations - int(rest.partition("$")[0])
        if missing > 0:
            burn(password, iterations=missing)
    return right


def burn(password: str, *, iterations: int) -> None:
    """Take the time that verifying takes, for an account that does not exist."""
    hashlib.pbkdf2_hmac("sha256", password.encode(), b"no such account", iterations)


def _check_pbkdf2(digest_name: str) -> Callable[[str, str], bool]:
    def check(password: str, rest: str) -> bool:
        iterations, salt, encoded = rest.split("$")
        digest = hashlib.pbkdf2_hmac(digest_name, password.encode(), salt.encode(), int(iterations))
        return hmac.compare_digest(base64.b64encode(digest), encoded.encode())

    return check


def _check_scrypt(password: str, rest: str) -> bool:
    work_factor, salt, block_size, parallelism, encoded = rest.split("$")
    digest = hashlib.scrypt(
        password.encode(),
        salt=salt.encode(),
        n=int(work_factor),
        r=int(block_size),
        p=int(parallelism),
        maxmem=_SCRYPT_MEMORY_LIMIT_BYTES,
        dklen=_SCRYPT_BYTES,
    )
    return hmac.compare_digest(base64.b64encode(digest), encoded.encode())


def _check_argon2(password: str, rest: str) -> bool:
    variant = _ARGON2_TYPES.get(rest.partition("$")[0])
    if variant is None:
        raise ValueError("not an argon2 variant")
    try:
        return verify_secret(f"${rest}".encode("ascii"), password.encode(), variant)
    except (VerificationError, InvalidHashError):
        return False


_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "pbkdf2_sha256": _check_pbkdf2("sha256"),
    "pbkdf2_sha1": _check_pbkdf2("sha1"),
    "scrypt": _check_scrypt,
    "argon2": _check_argon2,
}
