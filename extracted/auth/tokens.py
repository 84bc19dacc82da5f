"""Access and refresh tokens: made and judged. Pure: time, chance and keys are arguments.

Access tokens are JWT (RFC 7519) signed with EdDSA on Ed25519 (RFC 8037); their claims are specified in
docs/reference/http-api.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwa import EdDSAAlgorithm
from joserfc.jwk import OKPKey

from extracted.auth.keyring import SigningKey

ISSUER = "auth"
ISSUERS = frozenset({"monolith", "auth"})
AUDIENCE = "shop"
LIFETIME_S = 900
LEEWAY_S = 10
REFRESH_BYTES = 32
REFRESH_LIFETIME_S = 14 * 86_400

_SUBJECT = re.compile(r"[1-9][0-9]{0,18}")
_BIGINT_MAX = 2**63 - 1


class _Ed25519Only(EdDSAAlgorithm):
    # RFC 9864 prefers the name "Ed25519"; the tokens' contract says "EdDSA", and the key ring holds Ed25519 alone.
    security_warning = None  # type: ignore[assignment]


class _Registry(jws.JWSRegistry):
    algorithms: ClassVar = {"EdDSA": _Ed25519Only()}  # type: ignore[misc]


_REGISTRY = _Registry(algorithms=["EdDSA"])


class InvalidToken(Exception):
    """Not an access token that holds now; the message says why, for the log and never for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """What a verified token says. `user_id` is a positive bigint."""

    user_id: int
    issuer: str
    token_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A new refresh token: what the client gets, and what is stored of it."""

    text: str
    digest: str


def mint(user_id: int, *, key: SigningKey, now_s: int, token_id: uuid.UUID | None = None) -> str:
    """An access token for that user, `LIFETIME_S` long. `now_s` is Unix time."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "iat": now_s,
        "exp": now_s + LIFETIME_S,
        "jti": (token_id or uuid.uuid4()).hex,
    }
    return jwt.encode({"alg": "EdDSA", "kid": key.kid}, claims, key.private, registry=_REGISTRY)


def judge(text: str, *, find_key: Callable[[str], OKPKey | None], now_s: float) -> AccessToken:
    """Verify an access token of any side; raises `InvalidToken`.

    The algorithm is never taken from the token: only EdDSA is registered, so that `none` and a MAC keyed with
    a public key are refused before any key is looked at.
    """
    try:
        compact = jws.extract_compact(text.encode("ascii"), registry=_REGISTRY)
        header = compact.headers()
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


def _judge_claims(claims: Mapping[str, Any], now_s: float) -> AccessToken:
    issued, expires = claims.get("iat"), claims.get("exp")
    subject, token_id, scope = claims.get("sub"), claims.get("jti"), claims.get("scope", "")
    if claims.get("iss") not in ISSUERS:
        raise InvalidToken("issuer")
    if claims.get("aud") != AUDIENCE:
        raise InvalidToken("audience")
    if type(issued) is not int or issued > now_s + LEEWAY_S:
        raise InvalidToken("issued in the future, or not said when")
    if type(expires) is not int or expires <= now_s - LEEWAY_S:
        raise InvalidToken("expired")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or int(subject) > _BIGINT_MAX:
        raise InvalidToken("subject")
    if not isinstance(token_id, str) or not isinstance(scope, str):
        raise InvalidToken("token id or scope")
    return AccessToken(user_id=int(subject), issuer=claims["iss"], token_id=token_id, scopes=frozenset(scope.split()))


def make_refresh_token(entropy: bytes | None = None) -> RefreshToken:
    """A new refresh token of `REFRESH_BYTES` random bytes, base64url without padding."""
    entropy = secrets.token_bytes(REFRESH_BYTES) if entropy is None else entropy
    text = base64.urlsafe_b64encode(entropy).rstrip(b"=").decode("ascii")
    return RefreshToken(text=text, digest=digest(text))


def digest(refresh_token: str) -> str:
    """What is stored of a refresh token: its sha256 in hex.

    >>> digest("")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(refresh_token.encode()).hexdigest()
