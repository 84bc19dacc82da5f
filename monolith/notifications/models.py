"""Who wants e-mail, and which receipts were sent."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class MailPreference(models.Model):
    """One for every user: made as soon as they are heard of."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    receipts = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"mail of user {self.pk}"


class Receipt(models.Model):
    """A receipt that is owed for a payment; `payment_id` is a plain value."""

    payment_id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    order_id = models.BigIntegerField(null=True, blank=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["created_at"], condition=models.Q(sent_at=None), name="notifications_unsent")]

    def __str__(self) -> str:
        return f"receipt of {self.payment_id}"
