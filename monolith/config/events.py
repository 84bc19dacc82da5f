"""What the monolith hears from whoever owns accounts and payments: the events, in any order, each at least once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from monolith.accounts import api as accounts
from monolith.notifications import api as notifications
from monolith.orders import api as orders
from monolith.payments import api as payments
from monolith.payments.tasks import settle_day
from strangler_proxy.contrib.django import arrival
from strangler_proxy.contrib.django.handover import run_handed_task
from strangler_proxy.contrib.messaging import Message
from strangler_proxy.contrib.messaging.handover import event_for

Data = Mapping[str, Any]


def handle(message: Message) -> None:
    """Have the effect of one message, in the transaction of its inbox row."""
    if message.event in HANDED_OVER:
        run_handed_task(message)
    else:
        EFFECTS[message.event](message.data)


def user_registered(data: Data) -> None:
    """What the `post_save` signal does for users made here. The row may come after the event: it is waited for."""
    user_id = int(data["user_id"])
    arrival.wait_for(lambda: accounts.find_user(user_id), flag="auth")
    notifications.welcome(user_id)


def payment_captured(data: Data) -> None:
    """The order is paid, and a receipt is owed."""
    payment_id, user_id = UUID(data["intent_id"]), int(data["user_id"])
    if data["order_id"] is not None:
        orders.note_captured(int(data["order_id"]), payment_id)
    arrival.wait_for(lambda: accounts.find_user(user_id), flag="auth")
    notifications.owe_receipt(
        payment_id=payment_id,
        user_id=user_id,
        order_id=data["order_id"],
        amount=Decimal(data["amount"]),
        currency=data["currency"],
    )


def payment_refunded(data: Data) -> None:
    """The order is refunded, in part or whole."""
    if data["order_id"] is not None:
        orders.note_refunded(
            int(data["order_id"]), UUID(data["intent_id"]), UUID(data["refund_id"]), Decimal(data["amount"])
        )


EFFECTS: Mapping[str, Callable[[Data], None]] = {
    accounts.USER_REGISTERED: user_registered,
    payments.CAPTURED: payment_captured,
    payments.REFUNDED: payment_refunded,
}
HANDED_OVER = frozenset({event_for(settle_day.name, "monolith")})
"""Tasks that the other side hands over when payments are here again."""
BINDINGS = sorted({*EFFECTS, *HANDED_OVER})
