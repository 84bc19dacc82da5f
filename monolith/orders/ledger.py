"""What is known of an order's payment. Told by the answer of a call and, again, by the event: in any order."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Now

from monolith.orders.models import Order, OrderRefund
from monolith.orders.rules import OrderStatus


def note_captured(order_id: int, payment_id: uuid.UUID) -> None:
    """Mark a pending order paid; any other stays as it is."""
    pending = Order.objects.filter(pk=order_id, status=OrderStatus.PENDING)
    pending.update(status=OrderStatus.PAID, payment_id=payment_id, paid_at=Now())


@transaction.atomic
def note_refunded(order_id: int, payment_id: uuid.UUID, refund_id: uuid.UUID, amount: Decimal) -> None:
    """Note a refund once, and mark the order partially refunded or refunded."""
    order = Order.objects.select_for_update().filter(pk=order_id).first()
    if order is None:
        return
    OrderRefund.objects.get_or_create(pk=refund_id, defaults={"order": order, "amount": amount})
    back = order.refunds.aggregate(total=Sum("amount"))["total"] or Decimal(0)
    order.status = OrderStatus.REFUNDED if back >= order.total else OrderStatus.PARTIALLY_REFUNDED
    if order.payment_id is None:  # the refund was heard of before the capture
        order.payment_id = payment_id
    order.save(update_fields=["status", "payment_id"])
