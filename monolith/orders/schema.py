"""Shapes of requests and answers, for the OpenAPI document only."""

from __future__ import annotations

from rest_framework import serializers

from monolith.orders.rules import MOST_ITEMS, MOST_OF_ONE, OrderStatus
from monolith.payments.api import CARD_TOKEN_CHARACTERS


class NewItem(serializers.Serializer):
    """So many of that."""

    product_id = serializers.IntegerField(min_value=1)
    quantity = serializers.IntegerField(min_value=1, max_value=MOST_OF_ONE)


class NewOrder(serializers.Serializer):
    """What somebody wants to have."""

    items = serializers.ListField(child=NewItem(), min_length=1, max_length=MOST_ITEMS)


class Card(serializers.Serializer):
    """A card, as the card processor's token."""

    card_token = serializers.CharField(max_length=CARD_TOKEN_CHARACTERS)


class Item(serializers.Serializer):
    """A line of an order."""

    product_id = serializers.IntegerField()
    name = serializers.CharField()
    unit_price = serializers.DecimalField(max_digits=10, decimal_places=2)
    quantity = serializers.IntegerField()


class Order(serializers.Serializer):
    """An order."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=OrderStatus.choices)
    total = serializers.DecimalField(max_digits=12, decimal_places=2)
    currency = serializers.CharField()
    refunded_amount = serializers.DecimalField(max_digits=12, decimal_places=2)
    payment_id = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()
    items = Item(many=True)


class OrderList(serializers.Serializer):
    """Orders, newest first."""

    results = Order(many=True)


class PaidOrder(serializers.Serializer):
    """An order and its payment (see /api/payments/)."""

    order = Order()
    payment = serializers.DictField()


class RefundedOrder(serializers.Serializer):
    """An order and its refund (see /api/payments/)."""

    order = Order()
    refund = serializers.DictField()
