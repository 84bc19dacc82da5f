"""What is owed to people, written down; sending is the tasks' part."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.db import transaction

from monolith.notifications.models import MailPreference, Receipt


def welcome(user_id: int) -> None:
    """Make the user's mail preference, unless it is there: said by the signal and, again, by the event."""
    MailPreference.objects.bulk_create([MailPreference(user_id=user_id)], ignore_conflicts=True)


def owe_receipt(*, payment_id: UUID, user_id: int, order_id: int | None, amount: Decimal, currency: str) -> None:
    """Note a receipt once, in the caller's transaction, and have it sent after that is committed."""
    from monolith.notifications.tasks import send_receipt_soon

    receipt = Receipt(payment_id=payment_id, user_id=user_id, order_id=order_id, amount=amount, currency=currency)
    Receipt.objects.bulk_create([receipt], ignore_conflicts=True)
    transaction.on_commit(lambda: send_receipt_soon(payment_id), robust=True)
