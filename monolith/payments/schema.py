"""Shapes of requests and answers, for the OpenAPI document only."""

from __future__ import annotations

from rest_framework import serializers

from monolith.payments.rules import CARD_TOKEN_CHARACTERS, TEXT_CHARACTERS, IntentStatus, RefundStatus


def _money() -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=12, decimal_places=2)


class NewRefund(serializers.Serializer):
    """A wish to give money back."""

    amount = _money()
    reason = serializers.CharField(max_length=TEXT_CHARACTERS, required=False)


class Refund(serializers.Serializer):
    """Money on its way back."""

    id = serializers.UUIDField()
    amount = _money()
    status = serializers.ChoiceField(choices=RefundStatus.choices)
    reason = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()


class NewIntent(serializers.Serializer):
    """A wish to be paid."""

    amount = _money()
    currency = serializers.CharField(min_length=3, max_length=3)
    card_token = serializers.CharField(max_length=CARD_TOKEN_CHARACTERS)
    description = serializers.CharField(max_length=TEXT_CHARACTERS, required=False)
    order_id = serializers.IntegerField(min_value=1, required=False, allow_null=True)


class Intent(serializers.Serializer):
    """A payment."""

    id = serializers.UUIDField()
    order_id = serializers.IntegerField(allow_null=True)
    amount = _money()
    currency = serializers.CharField()
    status = serializers.ChoiceField(choices=IntentStatus.choices)
    captured_amount = _money()
    refunded_amount = _money()
    description = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    refunds = Refund(many=True)


class Page(serializers.Serializer):
    """Some payments, and where to go on."""

    results = Intent(many=True)
    next = serializers.CharField(allow_null=True)


class Day(serializers.Serializer):
    """A date."""

    date = serializers.DateField()


class Total(serializers.Serializer):
    """What a day came to in one currency."""

    currency = serializers.CharField()
    captured_total = serializers.DecimalField(max_digits=14, decimal_places=2)
    refunded_total = serializers.DecimalField(max_digits=14, decimal_places=2)
    payments = serializers.IntegerField()


class Settlements(Day):
    """What a day came to."""

    settlements = Total(many=True)


class WebhookEvent(serializers.Serializer):
    """An event of the card processor."""

    id = serializers.CharField(max_length=64)
    kind = serializers.CharField(max_length=40)
    created_at = serializers.CharField(required=False)
    data = serializers.DictField()
