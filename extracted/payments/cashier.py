"""Intents, captures and refunds, one method per verb, each at most once per Idempotency-Key.

A capture or refund is two transactions with the card processor between them: the first commits what is about to be
asked for, under the key; the second records the outcome and the answer. Whatever ends in between leaves a recorded
state from which the same key, the webhook or the sweeper goes on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from extracted.payments.card_processor import CardProcessor, ProcessorUnavailable
from extracted.payments.fields import Cursor, NewIntent, NewRefund
from extracted.payments.idempotency import Answer, Ask, KeyRow, Next, check_key, next_step
from extracted.payments.intent import (
    CAPTURABLE,
    REFUNDABLE,
    Intent,
    IntentStatus,
    Refund,
    RefundStatus,
    intent_document,
    refund_document,
    refund_id_for,
)
from extracted.payments.money import format_amount
from extracted.payments.outcome import record_charge, record_refund
from extracted.payments.problem import Code, Problem
from extracted.payments.store import Books, Store
from strangler_proxy.contrib.record import resumable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, and whether it is told again."""

    answer: Answer
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """How a request with a key begins: with an answer that was stored, or with what it asks for."""

    stored: Answer | None
    asked: T | None = None
    goes_on: bool = False
    """Somebody with this key has committed what was to be asked for."""


class Cashier:
    """The rules of payments over store and card processor."""

    def __init__(self, *, store: Store, processor: CardProcessor) -> None:
        self._store = store
        self._processor = processor

    async def create(self, ask: Ask, parse: Callable[[], NewIntent]) -> Reply:
        """A new intent. `parse` reads the body and may raise `Problem`: then the key stays unused."""
        async with self._store.transaction() as books:
            entry = await _enter(books, ask, parse)
            if entry.asked is None:
                return _replay(entry)
            intent = await books.insert_intent(ask.customer_id, entry.asked)
            return await _finish(books, ask, _answer(201, intent_document(intent)))

    async def capture(self, ask: Ask, intent_id: uuid.UUID, parse: Callable[[], Mapping[str, Any]]) -> Reply:
        """Charge the intent; raises `Problem(processor_unavailable)` and leaves it `capturing`."""
        async with self._store.transaction() as books:
            await _own(books, ask.customer_id, intent_id)
            entry = await _enter(books, ask, parse)
            if entry.asked is None:
                return _replay(entry)
            intent = await _begin_capture(books, intent_id, goes_on=entry.goes_on)
            if isinstance(intent, Answer):
                return await _finish(books, ask, intent)
        with resumable():
            try:
                outcome = await self._processor.charge(intent)
            except ProcessorUnavailable as error:
                await self._give_up(ask, error)
            async with self._store.transaction() as books:
                await books.keys.hold(ask)
                return await _finish(books, ask, _capture_answer(await record_charge(books, intent_id, outcome)))

    async def refund(self, ask: Ask, intent_id: uuid.UUID, parse: Callable[[], NewRefund]) -> Reply:
        """Refund a part of the intent; raises `Problem(processor_unavailable)` and leaves the refund `pending`."""
        async with self._store.transaction() as books:
            await _own(books, ask.customer_id, intent_id)
            entry = await _enter(books, ask, parse)
            if entry.asked is None:
                return _replay(entry)
            begun = await _begin_refund(books, ask, intent_id, entry.asked)
            if isinstance(begun, Answer):
                return await _finish(books, ask, begun)
        intent, refund = begun
        with resumable():
            try:
                outcome = await self._processor.refund(intent, refund)
            except ProcessorUnavailable as error:
                await self._give_up(ask, error)
            async with self._store.transaction() as books:
                await books.keys.hold(ask)
                recorded = await record_refund(books, intent_id, refund.id, outcome)
                return await _finish(books, ask, _answer(201, refund_document(recorded)))

    async def read(self, customer_id: int, intent_id: uuid.UUID) -> Intent:
        """A customer's intent, from whatever copy is here; raises `Problem(not_found)`."""
        async with self._store.transaction() as books:
            intent = await books.read_intent(intent_id)
        if intent is None or intent.customer_id != customer_id:
            raise Problem(Code.NOT_FOUND)
        return intent

    async def page(self, customer_id: int, *, limit: int, after: Cursor | None) -> tuple[list[Intent], Intent | None]:
        """At most `limit` of a customer's intents, newest first, and the last of them when there are more."""
        async with self._store.transaction() as books:
            found = await books.page(customer_id, limit=limit + 1, after=after)
        return found[:limit], found[limit - 1] if len(found) > limit else None

    async def _give_up(self, ask: Ask, error: ProcessorUnavailable) -> NoReturn:
        async with self._store.transaction() as books:
            await books.keys.release(ask)
        raise Problem(Code.PROCESSOR_UNAVAILABLE) from error


async def _own(books: Books, customer_id: int, intent_id: uuid.UUID) -> None:
    intent = await books.read_intent(intent_id)
    if intent is None or intent.customer_id != customer_id:
        await books.require_owner()
        raise Problem(Code.NOT_FOUND)


async def _enter(books: Books, ask: Ask, parse: Callable[[], T]) -> Entry[T]:
    """Look the key up, read what is asked for, and take the key; raises `Problem`."""
    check_key(ask.key)
    row = await books.keys.find(ask)
    if await _next(books, ask, row) is Next.REPLAY:
        return Entry(stored=row.answer if row else None)
    asked = parse()
    if row is None and await books.keys.insert(ask):
        return Entry(stored=None, asked=asked)
    # Somebody began it: before, or a moment ago and faster. Held, so that of several only one goes on.
    row = await books.keys.hold(ask)
    if await _next(books, ask, row) is Next.REPLAY:
        return Entry(stored=row.answer if row else None)
    await books.keys.take(ask)
    return Entry(stored=None, asked=asked, goes_on=True)


async def _next(books: Books, ask: Ask, row: KeyRow | None) -> Next:
    try:
        return next_step(ask, row)
    except Problem:
        await books.require_owner()
        raise


async def _begin_capture(books: Books, intent_id: uuid.UUID, *, goes_on: bool) -> Intent | Answer:
    """The intent to charge now, or the answer where there is nothing to charge."""
    intent = await _hold(books, intent_id)
    if intent.status in CAPTURABLE:
        await books.begin_capture(intent_id)
        return intent
    if not goes_on:
        return _refusal(Problem(Code.NOT_CAPTURABLE, status=intent.status.value))
    return intent if intent.status is IntentStatus.CAPTURING else _capture_answer(intent)


async def _begin_refund(books: Books, ask: Ask, intent_id: uuid.UUID, new: NewRefund) -> tuple[Intent, Refund] | Answer:
    """The refund to make now, or the answer where there is none to make."""
    intent = await _hold(books, intent_id)
    refund_id = refund_id_for(intent_id, ask.key)
    begun = intent.refund(refund_id)
    if begun is not None:
        return (intent, begun) if begun.status is RefundStatus.PENDING else _answer(201, refund_document(begun))
    if intent.status not in REFUNDABLE:
        return _refusal(Problem(Code.NOT_REFUNDABLE, status=intent.status.value))
    if new.amount > intent.refundable:
        left = format_amount(intent.refundable)
        return _refusal(Problem(Code.REFUND_TOO_LARGE, amount=left, currency=intent.currency))
    await books.insert_refund(refund_id, intent_id, new)
    intent = await books.must_read(intent_id)
    made = intent.refund(refund_id)
    if made is None:
        raise LookupError(f"refund {refund_id} was inserted a moment ago")
    return intent, made


async def _hold(books: Books, intent_id: uuid.UUID) -> Intent:
    intent = await books.hold_intent(intent_id)
    if intent is None:
        raise LookupError(f"intent {intent_id} was there a moment ago")
    return intent


async def _finish(books: Books, ask: Ask, answer: Answer) -> Reply:
    return Reply(answer=await books.keys.store(ask, answer))


def _replay(entry: Entry[Any]) -> Reply:
    if entry.stored is None:
        raise LookupError("an entry is an answer or something that is asked for")
    return Reply(answer=entry.stored, replayed=True)


def _capture_answer(intent: Intent) -> Answer:
    if intent.status is IntentStatus.DECLINED:
        return _refusal(Problem(Code.CARD_DECLINED))
    return _answer(200, intent_document(intent))


def _refusal(problem: Problem) -> Answer:
    return _answer(problem.status, problem.document())


def _answer(status: int, document: Mapping[str, Any]) -> Answer:
    return Answer(status=status, text=encode(document))


def encode(document: Mapping[str, Any]) -> str:
    """JSON as it is sent and stored."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
