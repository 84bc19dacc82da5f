"""Strata: requests that are judged together, so that a rare kind that always fails cannot hide among many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strangler_proxy.core.observation import Observation, status_class

SESSION_COOKIES: Final = frozenset(
    {"sessionid", "session", "sid", "session_id", "connect.sid", "jsessionid", "phpsessid"}
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StratumKey:
    """What a stratum is known by. Status class and content type are those of the control's answer."""

    method: str
    path_template: str
    status_class: str
    signed_in: bool
    content_type: str

    def document(self) -> dict[str, object]:
        """As a report writes it."""
        return {
            "method": self.method,
            "path_template": self.path_template,
            "status_class": self.status_class,
            "signed_in": self.signed_in,
            "content_type": self.content_type,
        }

    def __str__(self) -> str:
        who = "signed in" if self.signed_in else "guest"
        return f"{self.method} {self.path_template} {self.status_class} {who} {self.content_type or 'no body'}"


def stratum(method: str, path_template: str, *, signed_in: bool, control: Observation) -> StratumKey:
    """The stratum of a request and its control's answer. Unknown methods are one stratum, so that none can flood it."""
    return stratum_of(
        method, path_template, signed_in=signed_in, status=control.status, content_type=control.content_type
    )


def stratum_of(method: str, path_template: str, *, signed_in: bool, status: int, content_type: str) -> StratumKey:
    """The stratum of a request by what is known of its control's answer; parameters of the type are left out.

    >>> str(stratum_of("get", "/a", signed_in=False, status=204, content_type="Text/HTML; charset=utf-8"))
    'GET /a 2xx guest text/html'
    """
    return StratumKey(
        method=method.upper() if method.upper() in _METHODS else "OTHER",
        path_template=path_template,
        status_class=status_class(status),
        signed_in=signed_in,
        content_type=content_type.partition(";")[0].strip().lower()[:100],
    )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def is_signed_in(fields: Iterable[tuple[str, str]], session_cookies: frozenset[str] = SESSION_COOKIES) -> bool:
    """Did a request carry Authorization or a session cookie? Names in lower case.

    >>> is_signed_in([("cookie", "theme=dark; sessionid=x")]), is_signed_in([("cookie", "theme=dark")])
    (True, False)
    """
    for name, value in fields:
        if name == "authorization" and value.strip():
            return True
        if name == "cookie":
            pairs = (part.strip().partition("=") for part in value.split(";"))
            if any(key.lower() in session_cookies and said for key, _, said in pairs):
                return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A stratum that production has and the evidence lacks (or has too little of)."""

    key: StratumKey
    requests: int
    compared: int
    share: float


def unseen(production: Mapping[StratumKey, int], compared: Mapping[StratumKey, int]) -> tuple[Unseen, ...]:
    """Strata of which nothing was compared, the most frequent in production first; `share` of all requests."""
    total = sum(production.values())
    return tuple(
        Unseen(key=key, requests=requests, compared=0, share=requests / total)
        for key, requests in sorted(production.items(), key=lambda each: (-each[1], each[0]))
        if requests > 0 and not compared.get(key)
    )
