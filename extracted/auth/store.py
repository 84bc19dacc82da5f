"""Accounts, refresh tokens and failed sign-ins in PostgreSQL: rows in, values of the service out.

Every method is one transaction. A write on the side that is not the owner raises psycopg's error with SQLSTATE
`MF001`; so does `require_owner`. Nobody here catches it: `contrib.starlette.FenceMiddleware` answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, errors
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool

from extracted.auth.account import Account
from extracted.auth.queries import query
from extracted.auth.tokens import REFRESH_LIFETIME_S
from strangler_proxy.contrib import messaging

FAILURE_LIMIT = 5
FAILURE_WINDOW_S = 300
USER_REGISTERED = "user.registered"

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class EmailTaken(Exception):
    """Another account has this address."""


class TooManyFailures(Exception):
    """Sign-ins for this address are refused for another `retry_after_s` seconds."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Store:
    """The service's database behind a pool whose connections record the fence (`contrib.starlette`)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ready(self) -> bool:
        """Whether the database answers and has the tables; raises psycopg's errors when it does not answer."""
        async with self._transaction() as connection:
            return await self._row(connection, "is_owner") is not None

    async def find_account(self, account_id: int) -> Account | None:
        """The account with that id, active or not."""
        async with self._transaction() as connection:
            return await self._account(connection, "find_account", account_id=account_id)

    async def find_account_by_email(self, email: str) -> Account | None:
        """The account with that normalised address, active or not."""
        async with self._transaction() as connection:
            return await self._account(connection, "find_account_by_email", email=email)

    async def find_account_of_refresh_token(self, token_hash: str) -> Account | None:
        """The active account of a refresh token that holds now. Told by the owner only."""
        async with self._transaction() as connection:
            account = await self._account(connection, "find_account_of_refresh_token", token_hash=token_hash)
            await connection.execute(query("require_owner"))
            return account

    async def register(self, *, email: str, password_hash: str, name: str) -> Account:
        """Insert an account and its event `user.registered`; raises `EmailTaken`."""
        try:
            async with self._transaction() as connection:
                account = await self._account(
                    connection, "insert_account", email=email, password_hash=password_hash, name=name
                )
                assert account is not None
                await messaging.enqueue_async(
                    connection, USER_REGISTERED, {"user_id": account.id, "email": account.email, "name": account.name}
                )
                return account
        except errors.UniqueViolation as error:
            if error.diag.constraint_name != "account_email_key":
                raise
            raise EmailTaken from error

    async def rename(self, account_id: int, name: str) -> Account | None:
        """Give an active account another name; None when there is none."""
        async with self._transaction() as connection:
            account = await self._account(connection, "rename_account", account_id=account_id, name=name)
            if account is None:
                await connection.execute(query("require_owner"))
            return account

    async def change_password(self, account_id: int, *, verified_hash: str, new_hash: str) -> bool:
        """Store a new password and revoke all refresh tokens; False when the verified one is no longer stored."""
        async with self._transaction() as connection:
            changed = await self._row(
                connection, "change_password", account_id=account_id, verified_hash=verified_hash, new_hash=new_hash
            )
            if changed is None:
                await connection.execute(query("require_owner"))
                return False
            await connection.execute(query("revoke_refresh_tokens"), {"account_id": account_id})
            return True

    async def revoke(self, token_hash: str) -> None:
        """Revoke a refresh token; an unknown or revoked one changes nothing, which the owner alone may say."""
        async with self._transaction() as connection:
            if await self._row(connection, "revoke_refresh_token", token_hash=token_hash) is None:
                await connection.execute(query("require_owner"))

    async def check_failures(self, email_hash: str) -> None:
        """Raise `TooManyFailures` while sign-ins for that address are refused."""
        async with self._transaction() as connection:
            await self._check_failures(connection, email_hash)

    async def note_failure(self, email_hash: str) -> None:
        """Count a failed sign-in, or raise `TooManyFailures` when others were faster: at most the limit are told."""
        async with self._transaction() as connection:
            await connection.execute(query("lock_sign_in"), {"email_hash": email_hash})
            await self._check_failures(connection, email_hash)
            await connection.execute(query("require_owner"))
            await connection.execute(query("insert_sign_in_failure"), {"email_hash": email_hash})
            await connection.execute(query("prune_sign_in_failures"), {"window_s": FAILURE_WINDOW_S})

    async def sign_in(self, account: Account, *, email_hash: str, token_hash: str) -> bool:
        """Insert a refresh token and clear the failures of the address.

        False when the account's password has changed since it was read. Raises `TooManyFailures`.
        """
        async with self._transaction() as connection:
            await connection.execute(query("lock_sign_in"), {"email_hash": email_hash})
            await self._check_failures(connection, email_hash)
            held = await self._row(
                connection, "hold_password", account_id=account.id, verified_hash=account.password_hash
            )
            if held is None:
                await connection.execute(query("require_owner"))
                return False
            await connection.execute(
                query("insert_refresh_token"),
                {"account_id": account.id, "token_hash": token_hash, "lifetime_s": REFRESH_LIFETIME_S},
            )
            await connection.execute(query("forget_sign_in_failures"), {"email_hash": email_hash})
            return True

    async def require_owner(self) -> None:
        """Meet the fence unless this side may write; call it after the rows that an answer rests on were read."""
        async with self._transaction() as connection:
            await connection.execute(query("require_owner"))

    async def is_owner(self) -> bool:
        """Whether this side may write, by the ownership record beside the data."""
        async with self._transaction() as connection:
            row = await self._row(connection, "is_owner")
            return row is not None and bool(row["owner"])

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._pool.connection() as connection:
            yield connection

    async def _check_failures(self, connection: AsyncConnection[Any], email_hash: str) -> None:
        row = await self._row(
            connection,
            "count_sign_in_failures",
            email_hash=email_hash,
            window_s=FAILURE_WINDOW_S,
            limit=FAILURE_LIMIT,
        )
        if row is not None and row["failures"] >= FAILURE_LIMIT:
            raise TooManyFailures(retry_after_s=max(1, row["retry_after_s"]))

    async def _account(self, connection: AsyncConnection[Any], name: str, /, **values: object) -> Account | None:
        async with connection.cursor(row_factory=class_row(Account)) as cursor:
            await cursor.execute(query(name), values)
            return await cursor.fetchone()

    async def _row(self, connection: AsyncConnection[Any], name: str, /, **values: object) -> dict[str, Any] | None:
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query(name), values)
            return await cursor.fetchone()
