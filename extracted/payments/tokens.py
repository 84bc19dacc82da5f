"""Access tokens, judged. Pure: time and keys are arguments.

Access tokens are JWT (RFC 7519) signed with EdDSA on Ed25519 (RFC 8037); their claims are specified in
docs/reference/http-api.md. This service makes none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwa import EdDSAAlgorithm
from joserfc.jwk import OKPKey

ISSUERS = frozenset({"monolith", "auth"})
AUDIENCE = "shop"
LEEWAY_S = 10
ORDERS = "orders"
"""Scope of tokens that may name an order."""
SETTLEMENT = "settlement"
"""Scope of tokens that may settle a day."""

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
