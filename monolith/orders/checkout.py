"""From cart to paid, and back: commit, then call payments through their seam, then record.

Nothing here calls payments inside a transaction. Keys are derived from the order and its attempt, so that asking again
finds what an earlier, unanswered call did.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F

from monolith.catalog import api as catalog
from monolith.config.problem import Problem
from monolith.orders import ledger
from monolith.orders.models import Order, OrderLine
from monolith.orders.rules import PAID, REFUNDABLE, Cart, OrderStatus
from monolith.payments import api as payments

PENDING_FIRST = (
    "the order is committed first, payments are asked through their seam, and asking again goes on from there"
)
"""Why views of this module's functions commit in parts."""


@transaction.atomic
def place(user_id: int, cart: Cart) -> Order:
    """Commit an order as pending and take its products out of stock; raises `Problem` `out_of_stock`."""
    products = catalog.take(cart.quantities)
    lines = [
        OrderLine(
            product_id=product_id, name=products[product_id].name, unit_price=products[product_id].price, quantity=count
        )
        for product_id, count in cart.quantities.items()
    ]
    total = sum((line.unit_price * line.quantity for line in lines), Decimal(0))
    if total >= 1_000_000:
        raise Problem("invalid", errors={"items": ["An order must come to less than 1000000.00."]})
    order = Order.objects.create(user_id=user_id, total=total, currency=catalog.CURRENCY)
    for line in lines:
        line.order = order
    OrderLine.objects.bulk_create(lines)
    return order


def find(user_id: int, order_id: int) -> Order:
    """That user's order; raises `Problem` `not_found`."""
    order = Order.objects.filter(pk=order_id, user_id=user_id).prefetch_related("lines", "refunds").first()
    if order is None:
        raise Problem("not_found")
    return order


def pay(user_id: int, order_id: int, card_token: str) -> tuple[Order, payments.Payment]:
    """Pay an order; one that is paid already answers with its payment.

    Raises `Problem`: `card_declined` (another card may be tried), `other_card`, `not_payable`, and those of the seam
    that may be tried again.
    """
    order = find(user_id, order_id)
    if order.status in PAID:
        if order.payment_id is None:
            raise Problem("not_payable", status_word=order.label)
        return order, payments.read(user_id, str(order.payment_id))
    try:
        payment = payments.pay(
            user_id=user_id,
            order_id=order.pk,
            amount=order.total,
            currency=order.currency,
            card_token=card_token,
            description=f"Order {order.pk}",
            key=f"order:{order.pk}:{order.payment_attempt}",
        )
    except Problem as problem:
        if problem.code == "card_declined":
            _end_attempt(order, "payment_attempt")
        if problem.code == "idempotency_key_reused":
            raise Problem("other_card") from problem
        raise
    ledger.note_captured(order.pk, uuid.UUID(payment.id))
    return find(user_id, order_id), payment


def refund(user_id: int, order_id: int) -> tuple[Order, dict[str, Any]]:
    """Give back what is left of an order's money; the order and the refund.

    Raises `Problem`: `order_not_refundable`, and those of the seam that may be tried again.
    """
    find(user_id, order_id)
    order = _commit_to_refund(order_id)
    try:
        done = payments.refund(
            user_id=user_id,
            payment_id=str(order.payment_id),
            amount=order.refund_amount or Decimal(0),
            reason=f"Order {order.pk}",
            key=f"order:{order.pk}:refund:{order.refund_attempt}",
        )
    except Problem as problem:
        if problem.code in ("not_refundable", "refund_too_large"):
            _end_attempt(order, "refund_attempt")
            raise Problem("order_not_refundable", status_word=order.label) from problem
        raise
    if done["status"] == payments.RefundStatus.SUCCEEDED:
        ledger.note_refunded(order.pk, order.payment_id, uuid.UUID(done["id"]), Decimal(done["amount"]))
    elif done["status"] == payments.RefundStatus.FAILED:
        _end_attempt(order, "refund_attempt")
        raise Problem("order_not_refundable", status_word=order.label)
    return find(user_id, order_id), done


@transaction.atomic
def _commit_to_refund(order_id: int) -> Order:
    order = Order.objects.select_for_update().get(pk=order_id)
    if order.refund_amount is None:
        left = order.total - order.refunded
        if order.status not in REFUNDABLE or order.payment_id is None or left <= 0:
            raise Problem("order_not_refundable", status_word=order.label)
        order.refund_amount = left
        order.save(update_fields=["refund_amount"])
    return order


def _end_attempt(order: Order, name: str) -> None:
    """The next call has another key; only the first of several to hear of it counts."""
    same = Order.objects.filter(pk=order.pk, **{name: getattr(order, name)})
    if name == "refund_attempt":
        same.update(refund_attempt=F("refund_attempt") + 1, refund_amount=None)
    else:
        same.filter(status=OrderStatus.PENDING).update(payment_attempt=F("payment_attempt") + 1)
