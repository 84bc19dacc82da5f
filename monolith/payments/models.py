"""Payments and what belongs to them: the rows that move with flag `payments`."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from monolith.config.fields import FixedCharField
from monolith.payments.rules import IntentStatus, RefundStatus


def _amount(**options: Any) -> models.DecimalField:
    return models.DecimalField(max_digits=12, decimal_places=2, **options)


class Intent(models.Model):
    """A payment: a wish to be paid and what became of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="payments")
    order = models.ForeignKey("orders.Order", on_delete=models.PROTECT, null=True, blank=True, related_name="payments")
    amount = _amount()
    currency = FixedCharField(max_length=3)
    status = models.CharField(max_length=20, choices=IntentStatus.choices, default=IntentStatus.CREATED)
    captured_amount = _amount(default=0)
    refunded_amount = _amount(default=0)
    card_token = models.CharField(max_length=64)
    description = models.CharField(max_length=200, blank=True)
    processor_charge_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "payment"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["user", "-created_at", "-id"], name="payments_of_user"),
            models.Index(
                fields=["updated_at"], condition=models.Q(status=IntentStatus.CAPTURING), name="payments_in_doubt"
            ),
            models.Index(fields=["created_at"], name="payments_by_day"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}, {self.status}"


class Refund(models.Model):
    """Money on its way back. A pending one counts against what is left."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    intent = models.ForeignKey(Intent, on_delete=models.CASCADE, related_name="refunds")
    amount = _amount()
    status = models.CharField(max_length=10, choices=RefundStatus.choices, default=RefundStatus.PENDING)
    reason = models.CharField(max_length=200, blank=True)
    processor_refund_id = models.CharField(max_length=64, null=True, blank=True, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(
                fields=["updated_at"], condition=models.Q(status=RefundStatus.PENDING), name="refunds_in_doubt"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} back, {self.status}"


class IdempotencyKey(models.Model):
    """A key of a user, what it was used for, and the answer once it is final."""

    pk = models.CompositePrimaryKey("user_id", "key")
    user_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    fingerprint = FixedCharField(max_length=64)
    response_status = models.SmallIntegerField(null=True)
    response_body = models.TextField(null=True)
    locked_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.key


class WebhookEvent(models.Model):
    """An event of the card processor: the table that makes a repeated one harmless."""

    id = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=40)
    payload = models.JSONField()
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-received_at"]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Settlement(models.Model):
    """What a day came to, in one currency."""

    date = models.DateField()
    currency = FixedCharField(max_length=3)
    captured_total = models.DecimalField(max_digits=14, decimal_places=2)
    refunded_total = models.DecimalField(max_digits=14, decimal_places=2)
    payments = models.IntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-date", "currency"]
        constraints = [models.UniqueConstraint(fields=["date", "currency"], name="payments_settlement_of_day")]

    def __str__(self) -> str:
        return f"{self.date} {self.currency}"
