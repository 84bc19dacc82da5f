"""The service's database: transactions, and the rows of payments within one.

A write on the side that is not the owner raises psycopg's error with SQLSTATE `MF001`; so does `require_owner`.
Nobody that answers a request catches it: `contrib.starlette.FenceMiddleware` answers. Rows are held in the order
key, intent, refund.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from extracted.payments.fields import NewIntent, NewRefund
from extracted.payments.intent import Intent, IntentStatus, Refund, RefundStatus
from extracted.payments.keys import Keys
from extracted.payments.queries import query
from strangler_proxy.contrib import messaging

Pool = AsyncConnectionPool[AsyncConnection[Any]]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What was captured and refunded of one day's payments in one currency."""

    currency: str
    captured_total: Decimal
    refunded_total: Decimal
    payments: int


class Books:
    """The rows of payments, within one transaction."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self.keys = Keys(connection)

    async def require_owner(self) -> None:
        """Meet the fence unless this side may write; call it after the rows that an answer rests on were read."""
        await self._connection.execute(query("require_owner"))

    async def read_intent(self, intent_id: uuid.UUID) -> Intent | None:
        """One intent with its refunds."""
        found = await self.read_intents([intent_id])
        return found[0] if found else None

    async def read_intents(self, ids: Sequence[uuid.UUID]) -> list[Intent]:
        """Intents with their refunds, newest first; all of one snapshot."""
        return _intents(await self._rows("read_intents", ids=list(ids)))

    async def page(self, customer_id: int, *, limit: int, after: tuple[datetime, uuid.UUID] | None) -> list[Intent]:
        """At most `limit` of a customer's intents, newest first, after a cursor."""
        after_time, after_id = after or (None, None)
        rows = await self._rows(
            "page_of_intents", customer_id=customer_id, limit=limit, after_time=after_time, after_id=after_id
        )
        return await self.read_intents([row["id"] for row in rows]) if rows else []

    async def hold_intent(self, intent_id: uuid.UUID) -> Intent | None:
        """One intent, held until the end of the transaction."""
        if not await self._rows("hold_intent", intent_id=intent_id):
            return None
        return await self.read_intent(intent_id)

    async def insert_intent(self, customer_id: int, new: NewIntent) -> Intent:
        """A new intent, `created`."""
        (row,) = await self._rows(
            "insert_intent",
            customer_id=customer_id,
            order_ref=new.order_id,
            amount=new.amount,
            currency=new.currency,
            card_token=new.card_token,
            description=new.description,
        )
        return await self.must_read(row["id"])

    async def must_read(self, intent_id: uuid.UUID) -> Intent:
        """An intent that this transaction has seen before."""
        intent = await self.read_intent(intent_id)
        if intent is None:
            raise LookupError(f"intent {intent_id} was there a moment ago")
        return intent

    async def begin_capture(self, intent_id: uuid.UUID) -> None:
        """`created` becomes `capturing`."""
        await self._do("begin_capture", intent_id=intent_id)

    async def record_capture(self, intent_id: uuid.UUID, charge_id: str) -> None:
        """`capturing` becomes `captured`."""
        await self._do("record_capture", intent_id=intent_id, charge_id=charge_id)

    async def record_decline(self, intent_id: uuid.UUID) -> None:
        """`capturing` becomes `declined`."""
        await self._do("record_decline", intent_id=intent_id)

    async def insert_refund(self, refund_id: uuid.UUID, intent_id: uuid.UUID, new: NewRefund) -> None:
        """A new refund, `pending`."""
        await self._do("insert_refund", refund_id=refund_id, intent_id=intent_id, amount=new.amount, reason=new.reason)

    async def record_refund(self, refund_id: uuid.UUID, status: RefundStatus, processor_refund_id: str) -> None:
        """`pending` becomes `succeeded` or `failed`."""
        await self._do(
            "record_refund", refund_id=refund_id, status=status.value, processor_refund_id=processor_refund_id
        )

    async def record_refunded(self, intent_id: uuid.UUID, refunded: Decimal, status: IntentStatus) -> None:
        """So much of the intent has been refunded now."""
        await self._do("record_refunded", intent_id=intent_id, refunded_amount=refunded, status=status.value)

    async def insert_webhook_event(self, event_id: str, kind: str, payload: Mapping[str, Any]) -> bool:
        """Note a webhook; False when it has come before."""
        return bool(await self._rows("insert_webhook_event", id=event_id, kind=kind, payload=Jsonb(dict(payload))))

    async def settle(self, date: str) -> list[Settlement]:
        """Settle a day (`YYYY-MM-DD`), once per currency; all settlements of it, by currency."""
        await self._do("lock_settlement", date=date)
        await self._do("settle", date=date)
        return [Settlement(**row) for row in await self._rows("read_settlements", date=date)]

    async def claim_captures_in_doubt(self, *, older_s: float, limit: int) -> list[Intent]:
        """Claim captures without an outcome, at most `limit`."""
        rows = await self._rows("claim_captures_in_doubt", older_s=older_s, limit=limit)
        return await self.read_intents([row["id"] for row in rows]) if rows else []

    async def claim_refunds_in_doubt(self, *, older_s: float, limit: int) -> list[tuple[Intent, Refund]]:
        """Claim refunds without an outcome, at most `limit`, each with its intent."""
        rows = await self._rows("claim_refunds_in_doubt", older_s=older_s, limit=limit)
        if not rows:
            return []
        claimed = {row["id"] for row in rows}
        intents = await self.read_intents([row["intent_id"] for row in rows])
        return [(intent, refund) for intent in intents for refund in intent.refunds if refund.id in claimed]

    async def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """Put a business event into the outbox, in this transaction."""
        await messaging.enqueue_async(self._connection, event, dict(data))

    async def _do(self, name: str, **values: object) -> None:
        await self._connection.execute(query(name), values)

    async def _rows(self, name: str, **values: object) -> list[Row]:
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query(name), values)
            return await cursor.fetchall()


class Store:
    """The database behind a pool whose connections record the fence (`contrib.starlette`)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Books]:
        """Everything within is committed together, or nothing where it raises."""
        async with self._pool.connection() as connection:
            yield Books(connection)

    async def ready(self) -> bool:
        """Whether the database answers and has the tables; raises psycopg's errors when it does not answer."""
        await self.is_owner()
        return True

    async def is_owner(self) -> bool:
        """Whether this side may write, by the ownership record beside the data."""
        async with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query("is_owner"))
            row = await cursor.fetchone()
            return row is not None and bool(row["owner"])


def _intents(rows: Iterable[Row]) -> list[Intent]:
    return [_intent(list(group)) for _, group in groupby(rows, key=lambda row: row["id"])]


def _intent(rows: list[Row]) -> Intent:
    row = {name: value for name, value in rows[0].items() if not name.startswith("refund_")}
    refunds = tuple(_refund(each) for each in rows if each["refund_id"] is not None)
    return Intent(**{**row, "status": IntentStatus(row["status"])}, refunds=refunds)


def _refund(row: Row) -> Refund:
    return Refund(
        id=row["refund_id"],
        intent_id=row["id"],
        amount=row["refund_amount"],
        status=RefundStatus(row["refund_status"]),
        reason=row["refund_reason"],
        created_at=row["refund_created_at"],
    )
