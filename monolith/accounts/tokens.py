"""Access and refresh tokens: made and judged. Pure: time, chance and keys are arguments.

Access tokens are JWT (RFC 7519) signed with EdDSA on Ed25519 (RFC 8037); claims as in http-api.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwa import EdDSAAlgorithm
from joserfc.jwk import OKPKey

from monolith.accounts.keyring import SigningKey

ISSUER = "monolith"
ISSUERS = frozenset({"monolith", "auth"})
AUDIENCE = "shop"
LIFETIME_S = 900
SEAM_LIFETIME_S = 60
LEEWAY_S = 10
REFRESH_LIFETIME = timedelta(days=14)

_SUBJECT = re.compile(r"[1-9][0-9]{0,18}")
_LARGEST_ID = 2**63 - 1


class _Ed25519Only(EdDSAAlgorithm):
    # RFC 9864 prefers the name "Ed25519"; the contract says "EdDSA", and the key ring holds Ed25519 alone.
    security_warning = None


class _Registry(jws.JWSRegistry):
    algorithms: ClassVar = {"EdDSA": _Ed25519Only()}


_REGISTRY = _Registry(algorithms=["EdDSA"])


class InvalidToken(Exception):
    """Not an access token that holds now; the message says why, for the log and never for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified access token says. `user_id` is a positive bigint."""

    user_id: int
    issuer: str
    scopes: frozenset[str]


def mint(user_id: int, *, key: SigningKey, now_s: int, scopes: Iterable[str] = (), lifetime_s: int = LIFETIME_S) -> str:
    """A signed access token; `now_s` is Unix time."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "iat": now_s,
        "exp": now_s + lifetime_s,
        "jti": uuid.uuid4().hex,
    }
    if scope := " ".join(sorted(scopes)):
        claims["scope"] = scope
    return jwt.encode({"alg": "EdDSA", "kid": key.kid}, claims, key.key, registry=_REGISTRY)


def judge(text: str, *, find_key: Callable[[str], OKPKey | None], now_s: float) -> Claims:
    """Verify an access token of any side; raises `InvalidToken`.

    The algorithm is never taken from the token: only EdDSA is registered, so `none` and a MAC keyed with a
    public key are refused before a key is looked at.
    """
    try:
        header = jws.extract_compact(text.encode("ascii"), registry=_REGISTRY).headers()
        _REGISTRY.check_header(header)
        _REGISTRY.get_alg(header["alg"])
        kid = header.get("kid")
        key = find_key(kid) if isinstance(kid, str) else None
        if key is None:
            raise InvalidToken("unknown key")
        claims = jwt.decode(text, key, registry=_REGISTRY).claims
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidToken(type(error).__name__) from error
    return _judge_claims(claims, now_s)


def _judge_claims(claims: Mapping[str, Any], now_s: float) -> Claims:
    issued, expires = claims.get("iat"), claims.get("exp")
    subject, scope = claims.get("sub"), claims.get("scope", "")
    if claims.get("iss") not in ISSUERS or claims.get("aud") != AUDIENCE:
        raise InvalidToken("issuer or audience")
    if type(issued) is not int or issued > now_s + LEEWAY_S:
        raise InvalidToken("issued in the future, or not said when")
    if type(expires) is not int or expires <= now_s - LEEWAY_S:
        raise InvalidToken("expired")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or int(subject) > _LARGEST_ID:
        raise InvalidToken("subject")
    if not isinstance(claims.get("jti"), str) or not isinstance(scope, str):
        raise InvalidToken("token id or scope")
    return Claims(user_id=int(subject), issuer=claims["iss"], scopes=frozenset(scope.split()))


def make_refresh_token() -> str:
    """32 random bytes, base64url without padding."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")


def digest(text: str) -> str:
    """What is stored of a refresh token (and of an address that failed): sha256 in hex.

    >>> digest("")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(text.encode()).hexdigest()
