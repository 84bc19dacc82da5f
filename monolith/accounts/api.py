"""The seam of accounts: what the rest of the shop may use. Local or remote, by the ownership record of flag `auth`."""

from __future__ import annotations

from typing import Any

from monolith.accounts import tokens
from monolith.accounts.documents import user_document
from monolith.accounts.local import FLAG, USER_REGISTERED, LocalAccounts, access_token, find_user, known_user
from monolith.accounts.models import User
from monolith.accounts.remote import RemoteAccounts
from monolith.accounts.rules import parse_credentials, parse_registration
from strangler_proxy.contrib.django import arrival
from strangler_proxy.contrib.django.seam import Seam

__all__ = [
    "USER_REGISTERED",
    "User",
    "find_user",
    "known_user",
    "register",
    "seam_token",
    "user_document",
    "verify",
]

_seam = Seam(flag=FLAG, local=LocalAccounts, remote=RemoteAccounts)


def register(body: dict[str, Any]) -> User:
    """Register somebody from `{email, password, name}`, wherever accounts are.

    Raises `Problem`: `invalid`, `email_taken`, `service_unavailable`; `NotArrived` where the copy is behind.
    """
    registration = parse_registration(body)
    return _arrived(_seam.call(lambda accounts: accounts.register(registration)))


def verify(email: str, password: str) -> User:
    """The active user with that address and password, wherever accounts are.

    Raises `Problem`: `invalid`, `invalid_credentials`, `too_many_attempts`, `service_unavailable`; `NotArrived`.
    """
    email, password = parse_credentials({"email": email, "password": password})
    return _arrived(_seam.call(lambda accounts: accounts.verify(email, password)))


def seam_token(user_id: int, *scopes: str) -> str:
    """A short-lived access token with which the monolith calls in that user's name."""
    return access_token(user_id, scopes=scopes, lifetime_s=tokens.SEAM_LIFETIME_S)


def _arrived(user_id: int) -> User:
    return arrival.wait_for(lambda: find_user(user_id), flag=FLAG)
