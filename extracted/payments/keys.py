"""Rows of `idempotency_key`, within one transaction."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from extracted.payments.idempotency import LOCK_S, Answer, Ask, KeyRow
from extracted.payments.queries import query


class Keys:
    """The idempotency keys; each method is about the key of one request."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def find(self, ask: Ask) -> KeyRow | None:
        """The key as it is."""
        return _key_row(await self._row("find_key", ask, lock_s=LOCK_S))

    async def hold(self, ask: Ask) -> KeyRow | None:
        """The key, held until the end of the transaction."""
        return _key_row(await self._row("hold_key", ask, lock_s=LOCK_S))

    async def insert(self, ask: Ask) -> bool:
        """Note a key without an answer; False when another request was faster."""
        return await self._row("insert_key", ask, fingerprint=ask.fingerprint) is not None

    async def take(self, ask: Ask) -> None:
        """Go on with it: it is this request's for `LOCK_S` seconds."""
        await self._do("take_key", ask)

    async def release(self, ask: Ask) -> None:
        """Let the next request with it go on at once."""
        await self._do("release_key", ask)

    async def store(self, ask: Ask, answer: Answer) -> Answer:
        """Keep the final answer; the one that is kept, which is another request's when that was faster."""
        row = await self._row("store_answer", ask, status=answer.status, body=answer.text)
        return answer if row is None else Answer(status=row["response_status"], text=row["response_body"])

    async def _do(self, name: str, ask: Ask) -> None:
        await self._connection.execute(query(name), {"customer_id": ask.customer_id, "key": ask.key})

    async def _row(self, name: str, ask: Ask, **values: object) -> dict[str, Any] | None:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query(name), {"customer_id": ask.customer_id, "key": ask.key, **values})
            return await cursor.fetchone()


def _key_row(row: dict[str, Any] | None) -> KeyRow | None:
    if row is None:
        return None
    status = row["response_status"]
    answer = None if status is None else Answer(status=status, text=row["response_body"] or "")
    return KeyRow(fingerprint=row["fingerprint"], answer=answer, locked=row["locked"])
