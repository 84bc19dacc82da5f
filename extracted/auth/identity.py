"""What the service does, one method per verb: the rules of accounts over store, hashing and keys."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from extracted.auth import tokens
from extracted.auth.account import Account
from extracted.auth.fields import Credentials, PasswordChange, Registration
from extracted.auth.hashing import HashingPool
from extracted.auth.keyring import KeyRing, SigningKey
from extracted.auth.problem import Code, Problem
from extracted.auth.store import EmailTaken, Store, TooManyFailures

ARRIVAL_TIMEOUT_S = 1.0
"""How long a verified user that has not arrived in this copy is waited for."""

ARRIVAL_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A sign-in that succeeded."""

    account: Account
    access_token: str
    refresh_token: str


class Identity:
    """Accounts, their passwords and their tokens.

    Every method of an unsafe request ends either in a write, which the fence guards, or in asking the database
    whether it is the owner's before it refuses: see migration 0003.
    """

    def __init__(
        self,
        *,
        store: Store,
        hashing: HashingPool,
        signing_key: SigningKey,
        keyring: KeyRing,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._hashing = hashing
        self._signing_key = signing_key
        self._keyring = keyring
        self._now_s = now_s
        self._sleep = sleep

    async def register(self, registration: Registration) -> Account:
        """A new account; raises `Problem(email_taken)`."""
        password_hash = await self._hashing.encode(registration.password)
        try:
            return await self._store.register(
                email=registration.email, password_hash=password_hash, name=registration.name
            )
        except EmailTaken:
            raise Problem(Code.EMAIL_TAKEN) from None

    async def sign_in(self, credentials: Credentials) -> Session:
        """A session; raises `Problem(invalid_credentials)` or `Problem(too_many_attempts)`.

        The failures are looked at before the password is hashed, and again, one at a time for the address,
        before the outcome is told: any number of attempts at once is told at most the limit of failures.
        """
        email_hash = hashlib.sha256(credentials.email.encode()).hexdigest()
        try:
            await self._store.check_failures(email_hash)
            account = await self._store.find_account_by_email(credentials.email)
            right = await self._hashing.verify(credentials.password, account.password_hash if account else None)
            if account is None or not account.is_active or not right:
                await self._store.note_failure(email_hash)
                raise Problem(Code.INVALID_CREDENTIALS)
            refresh = tokens.make_refresh_token()
            if not await self._store.sign_in(account, email_hash=email_hash, token_hash=refresh.digest):
                raise Problem(Code.INVALID_CREDENTIALS)
        except TooManyFailures as refusal:
            raise Problem(Code.TOO_MANY_ATTEMPTS, headers={"Retry-After": str(refusal.retry_after_s)}) from None
        return Session(account=account, access_token=self._mint(account), refresh_token=refresh.text)

    async def refresh(self, refresh_token: str) -> str:
        """A new access token; raises `Problem(invalid_refresh_token)`."""
        account = await self._store.find_account_of_refresh_token(tokens.digest(refresh_token))
        if account is None:
            raise Problem(Code.INVALID_REFRESH_TOKEN)
        return self._mint(account)

    async def sign_out(self, refresh_token: str) -> None:
        """Revoke a refresh token, known or not."""
        await self._store.revoke(tokens.digest(refresh_token))

    async def authenticate(self, access_token: str, *, unsafe: bool) -> Account:
        """The active account of an access token of any side.

        Raises `Problem(invalid_token)`, and for a safe request `Problem(not_yet_replicated)` when this side is
        not the owner and the account does not arrive in `ARRIVAL_TIMEOUT_S`.
        """
        try:
            token = tokens.judge(access_token, find_key=self._keyring.find, now_s=self._now_s())
        except tokens.InvalidToken:
            raise Problem(Code.INVALID_TOKEN) from None
        account = await self._store.find_account(token.user_id)
        if account is None and not unsafe:
            account = await self._wait_for_account(token.user_id)
        if account is None or not account.is_active:
            if unsafe:
                await self._store.require_owner()
            raise Problem(Code.INVALID_TOKEN)
        return account

    async def rename(self, account: Account, name: str) -> Account:
        """The account under its new name; raises `Problem(invalid_token)` when it went meanwhile."""
        renamed = await self._store.rename(account.id, name)
        if renamed is None:
            raise Problem(Code.INVALID_TOKEN)
        return renamed

    async def change_password(self, account: Account, change: PasswordChange) -> None:
        """A new password, and no refresh token of before; raises `Problem(invalid_credentials)`."""
        if not await self._hashing.verify(change.current_password, account.password_hash):
            await self._store.require_owner()
            raise Problem(Code.INVALID_CREDENTIALS)
        new_hash = await self._hashing.encode(change.new_password)
        changed = await self._store.change_password(account.id, verified_hash=account.password_hash, new_hash=new_hash)
        if not changed:
            raise Problem(Code.INVALID_CREDENTIALS)

    async def _wait_for_account(self, account_id: int) -> Account | None:
        for _ in range(round(ARRIVAL_TIMEOUT_S / ARRIVAL_POLL_S)):
            if await self._store.is_owner():
                # Once more: it may have become the owner, with the row, after the row was looked for.
                return await self._store.find_account(account_id)
            await self._sleep(ARRIVAL_POLL_S)
            account = await self._store.find_account(account_id)
            if account is not None:
                return account
        raise Problem(Code.NOT_YET_REPLICATED)

    def _mint(self, account: Account) -> str:
        return tokens.mint(account.id, key=self._signing_key, now_s=int(self._now_s()))
