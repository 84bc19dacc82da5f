"""Accounts with the ORM: the seam's local implementation, and what the routes of flag `auth` run on.

A refusal told to a client rests on rows that this side owns (`require_owner`), and no password is rehashed here.
Hashing is slow on purpose and is never done inside a transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.contrib.auth.hashers import check_password, make_password
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from monolith.accounts import attempts, keyring, tokens
from monolith.accounts.models import RefreshToken, User
from monolith.accounts.rules import Registration
from monolith.config.ownership import require_owner
from monolith.config.problem import Problem
from strangler_proxy.contrib.django import arrival, outbox, ownership

FLAG = "auth"
USER_REGISTERED = "user.registered"
UNUSABLE = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A sign-in that succeeded; `refresh_token` is told once and never stored."""

    user: User
    refresh_token: str


def find_user(user_id: int) -> User | None:
    """The user in the local copy, at once."""
    return User.objects.filter(pk=user_id).first()


def known_user(user_id: int) -> User | None:
    """The user in the local copy; None where there is none.

    Where another side owns users, one that is not here yet is waited for: raises `NotArrived` after a second.
    """
    user = find_user(user_id)
    if user is None and not ownership.is_owner(FLAG):
        return arrival.wait_for(lambda: find_user(user_id), flag=FLAG)
    return user


def register(registration: Registration) -> User:
    """A new user and its event, in one transaction; raises `Problem` `email_taken`."""
    user = User(email=registration.email, name=registration.name, password=make_password(registration.password))
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            outbox.enqueue(USER_REGISTERED, {"user_id": user.pk, "email": user.email, "name": user.name})
    except IntegrityError as error:
        if "accounts_user_email" not in _constraint(error):
            raise
        raise Problem("email_taken") from error
    return user


def verify(email: str, password: str) -> User:
    """The active user with that address and password.

    Raises `Problem`: `invalid_credentials`, or `too_many_attempts`. Failures are looked at before the password is
    hashed, and again, one at a time for the address, before the outcome is told.
    """
    return _judge(email, password, issue=False).user


def sign_in(email: str, password: str) -> SignedIn:
    """As `verify`, with a refresh token."""
    return _judge(email, password, issue=True)


def refresh(refresh_token: str) -> User:
    """The active user of a refresh token that holds now; raises `Problem` `invalid_refresh_token`."""
    token = (
        RefreshToken.objects.select_related("user")
        .filter(token_hash=tokens.digest(refresh_token), revoked_at=None, expires_at__gt=Now(), user__is_active=True)
        .first()
    )
    require_owner(FLAG)
    if token is None:
        raise Problem("invalid_refresh_token")
    return token.user


def sign_out(refresh_token: str) -> None:
    """Revoke a refresh token; an unknown or revoked one changes nothing, which the owner alone may say."""
    tokens_here = RefreshToken.objects.filter(token_hash=tokens.digest(refresh_token), revoked_at=None)
    if not tokens_here.update(revoked_at=Now()):
        require_owner(FLAG)


@transaction.atomic
def rename(user: User, name: str) -> User:
    """The user under another name; raises `Problem` `invalid_token` when they went meanwhile."""
    if not User.objects.filter(pk=user.pk, is_active=True).update(name=name):
        raise Problem("invalid_token")
    require_owner(FLAG)  # an update that changes nothing does not meet the fence
    user.name = name
    return user


def change_password(user: User, current: str, new: str) -> None:
    """A new password, and no refresh token of before; raises `Problem` `invalid_credentials`."""
    if not _matches(current, user.password):
        raise Problem("invalid_credentials")
    encoded = make_password(new)
    with transaction.atomic():
        same = User.objects.filter(pk=user.pk, is_active=True, password=user.password)
        if not same.update(password=encoded):
            raise Problem("invalid_credentials")
        RefreshToken.objects.filter(user=user, revoked_at=None).update(revoked_at=Now())


def access_token(user_id: int, *, scopes: tuple[str, ...] = (), lifetime_s: int = tokens.LIFETIME_S) -> str:
    """A signed access token for that user."""
    return tokens.mint(user_id, key=keyring.signing_key(), now_s=int(time.time()), scopes=scopes, lifetime_s=lifetime_s)


class LocalAccounts:
    """The seam's local implementation; answers with user ids."""

    def register(self, registration: Registration) -> int:
        """As the function."""
        return register(registration).pk

    def verify(self, email: str, password: str) -> int:
        """As the function."""
        return verify(email, password).pk


def _judge(email: str, password: str, *, issue: bool) -> SignedIn:
    attempts.check(email)
    user = User.objects.filter(email=email).first()
    right = _matches(password, user.password if user else UNUSABLE)
    if user is None or not user.is_active or not right:
        attempts.note_failure(email)
        raise Problem("invalid_credentials")
    text = tokens.make_refresh_token() if issue else ""
    with transaction.atomic():
        attempts.hold(email)
        attempts.check(email)
        # Held against a change until the end, so that a change revokes the token that is inserted next.
        held = User.objects.select_for_update(no_key=True).filter(pk=user.pk, password=user.password, is_active=True)
        if not held.exists():
            raise Problem("invalid_credentials")
        if issue:
            RefreshToken.objects.create(
                user=user, token_hash=tokens.digest(text), expires_at=Now() + tokens.REFRESH_LIFETIME
            )
        require_owner(FLAG)
        attempts.forget(email)
    return SignedIn(user=user, refresh_token=text)


def _matches(password: str, encoded: str) -> bool:
    """Takes as long for nobody's password as for somebody's; what is damaged is nobody's."""
    try:
        return check_password(password, encoded)
    except (ValueError, AssertionError):
        return check_password(password, UNUSABLE)


def _constraint(error: IntegrityError) -> str:
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) or ""
