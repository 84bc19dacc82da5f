"""Five thousand orders with a payment each: paid, given back, declined, in plausible shares and consistent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from monolith.accounts.models import User
from monolith.catalog.models import CURRENCY, Product
from monolith.orders.models import Order, OrderLine, OrderRefund
from monolith.orders.rules import OrderStatus
from monolith.payments.models import Intent, Refund
from monolith.payments.rules import IntentStatus, RefundStatus

ORDERS = 5_000
DAYS = 240
BATCH = 1_000

_FATES = ("paid", "returned", "partly", "declined")
_SHARES = (88, 4, 4, 4)
_STATES = {
    "paid": (OrderStatus.PAID, IntentStatus.CAPTURED),
    "returned": (OrderStatus.REFUNDED, IntentStatus.REFUNDED),
    "partly": (OrderStatus.PARTIALLY_REFUNDED, IntentStatus.PARTIALLY_REFUNDED),
    "declined": (OrderStatus.PENDING, IntentStatus.DECLINED),
}


@dataclass(slots=True)
class _Books:
    orders: list[Order] = field(default_factory=list)
    lines: list[OrderLine] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    order_refunds: list[OrderRefund] = field(default_factory=list)


def make_trade(rng: Random, first_day: datetime, people: Sequence[User], products: Sequence[Product]) -> None:
    """Insert them. Ids of payments and refunds come from `rng`; charges are named `seed_...`: no ledger holds them."""
    books = _Books()
    moments = sorted(rng.randrange(DAYS * 86_400_000_000) for _ in range(ORDERS))
    for moment in moments:
        _one(rng, first_day + timedelta(days=31, microseconds=moment), rng.choice(people), products, books)
    Order.objects.bulk_create(books.orders, batch_size=BATCH)
    OrderLine.objects.bulk_create(books.lines, batch_size=BATCH)
    OrderRefund.objects.bulk_create(books.order_refunds, batch_size=BATCH)
    Intent.objects.bulk_create(books.intents, batch_size=BATCH)
    Refund.objects.bulk_create(books.refunds, batch_size=BATCH)


def _one(rng: Random, when: datetime, user: User, products: Sequence[Product], books: _Books) -> None:
    fate = rng.choices(_FATES, _SHARES)[0]
    order_status, intent_status = _STATES[fate]
    declined = fate == "declined"
    payment_id = _uuid(rng)
    chosen = [(product, rng.randint(1, 3)) for product in rng.sample(products, rng.randint(1, 3))]
    total = sum((product.price * count for product, count in chosen), Decimal(0))
    order = Order(
        user=user,
        status=order_status,
        total=total,
        currency=CURRENCY,
        payment_id=None if declined else payment_id,
        payment_attempt=2 if declined else 1,
        created_at=when,
        paid_at=None if declined else when + timedelta(seconds=2),
    )
    books.orders.append(order)
    books.lines += [
        OrderLine(order=order, product=product, name=product.name, unit_price=product.price, quantity=count)
        for product, count in chosen
    ]
    back = {"returned": total, "partly": (total / 2).quantize(Decimal("0.01"))}.get(fate, Decimal(0))
    intent = Intent(
        id=payment_id,
        user=user,
        order=order,
        amount=total,
        currency=CURRENCY,
        status=intent_status,
        captured_amount=Decimal(0) if declined else total,
        refunded_amount=back,
        card_token="tok_declined" if declined else "tok_visa",
        processor_charge_id=None if declined else f"seed_ch_{payment_id.hex}",
        created_at=when + timedelta(seconds=1),
        updated_at=when + timedelta(seconds=2),
    )
    books.intents.append(intent)
    if back:
        _give_back(rng, order, intent, back, books)


def _give_back(rng: Random, order: Order, intent: Intent, amount: Decimal, books: _Books) -> None:
    refund_id, when = _uuid(rng), intent.updated_at + timedelta(hours=rng.randint(1, 72))
    books.refunds.append(
        Refund(
            id=refund_id,
            intent=intent,
            amount=amount,
            status=RefundStatus.SUCCEEDED,
            reason="sent back",
            processor_refund_id=f"seed_re_{refund_id.hex}",
            created_at=when,
            updated_at=when,
        )
    )
    intent.updated_at = when
    books.order_refunds.append(OrderRefund(id=refund_id, order=order, amount=amount, created_at=when))


def _uuid(rng: Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)
