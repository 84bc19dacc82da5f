"""Orders, their lines, and what was given back."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from monolith.orders.rules import OrderStatus


class Order(models.Model):
    """What somebody wants to have. `payment_id` is a plain value: the payment may live elsewhere."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders")
    status = models.CharField(max_length=20, choices=OrderStatus.choices, default=OrderStatus.PENDING)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    payment_id = models.UUIDField(null=True, blank=True)
    payment_attempt = models.PositiveSmallIntegerField(default=1)
    """Part of the payment's key: a declined card ends an attempt."""
    refund_amount = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    """What the shop has committed to give back and has no answer for yet."""
    refund_attempt = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def label(self) -> str:
        """The status in words."""
        return str(OrderStatus(self.status).label).lower()

    @property
    def refunded(self) -> Decimal:
        """What was given back."""
        return sum((refund.amount for refund in self.refunds.all()), Decimal(0))


class OrderLine(models.Model):
    """A product in an order, at the price of that day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey("catalog.Product", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120)
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)
    quantity = models.PositiveIntegerField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.name}"


class OrderRefund(models.Model):
    """A refund of an order's payment, by the refund's own id: noted once, however often it is told."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="refunds")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.amount} back"
