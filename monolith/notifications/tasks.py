"""Sending (Celery): at least once, and the mailbox keeps one file per receipt."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from celery import shared_task
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from monolith.notifications.models import MailPreference, Receipt

log = structlog.get_logger()

OVERDUE = timedelta(seconds=10)
AT_ONCE = 200


@shared_task(name="notifications.send_receipt")
def send_receipt(payment_id: str) -> None:
    """Send one receipt, unless it was sent or nobody wants it."""
    with transaction.atomic():
        unsent = Receipt.objects.select_for_update(skip_locked=True, of=("self",)).select_related("user")
        receipt = unsent.filter(pk=payment_id, sent_at=None).first()
        if receipt is None:
            return
        if not MailPreference.objects.filter(user=receipt.user, receipts=False).exists():
            _letter(receipt).send()
        Receipt.objects.filter(pk=receipt.pk).update(sent_at=Now())
    log.info("receipt.sent", payment=payment_id)


@shared_task(name="notifications.sweep")
def sweep() -> None:
    """Send what is overdue: its task was lost, or the broker was away."""
    overdue = Receipt.objects.filter(sent_at=None, created_at__lt=Now() - OVERDUE).order_by("created_at")
    for payment_id in overdue.values_list("pk", flat=True)[:AT_ONCE]:
        send_receipt(str(payment_id))


def send_receipt_soon(payment_id: UUID) -> None:
    """Hand it to a worker; where the broker is away, `sweep` finds it later."""
    try:
        send_receipt.delay(str(payment_id))
    except OperationalError as error:
        log.warning("receipt.task_unsent", payment=str(payment_id), reason=type(error).__name__)


def _letter(receipt: Receipt) -> EmailMessage:
    order = f" for order {receipt.order_id}" if receipt.order_id else ""
    return EmailMessage(
        subject="Your receipt",
        body=f"Dear {receipt.user.name},\n\nwe have received {receipt.amount:.2f} {receipt.currency}{order}.\n"
        f"Payment {receipt.payment_id}\n\nThe shop\n",
        to=[receipt.user.email],
        headers={"Message-ID": f"<receipt-{receipt.payment_id}@shop.example>"},
    )
