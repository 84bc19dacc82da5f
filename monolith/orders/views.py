"""Orders as JSON."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from monolith.config.api import ApiView, ok, read_object
from monolith.config.body import check, required_text
from monolith.config.moments import timestamp
from monolith.config.problem import Answer, FieldErrors, Problem
from monolith.orders import checkout, schema
from monolith.orders.models import Order
from monolith.orders.rules import LARGEST_ID, parse_items
from monolith.payments import api as payments
from strangler_proxy.contrib.django.parts import commits_in_parts

MOST_LISTED = 100


class Orders(ApiView):
    """A user's orders."""

    @extend_schema(request=schema.NewOrder, responses={201: schema.Order})
    def post(self, request: Request) -> Answer:
        """Order: products are set aside, nothing is charged yet. 409 `out_of_stock` where there is not enough."""
        order = checkout.place(request.user.pk, parse_items(read_object(request)))
        return ok(order_document(order), 201, Location=f"/api/orders/{order.pk}")

    @extend_schema(operation_id="orders_list", responses={200: schema.OrderList})
    def get(self, request: Request) -> Answer:
        """The newest hundred."""
        rows = Order.objects.filter(user=request.user).prefetch_related("lines", "refunds")[:MOST_LISTED]
        return ok({"results": [order_document(order) for order in rows]})


class OneOrder(ApiView):
    """One order."""

    @extend_schema(responses={200: schema.Order})
    def get(self, request: Request, order_id: int) -> Answer:
        """Read."""
        return ok(order_document(_find(request, order_id)))


class Pay(ApiView):
    """The payment of an order."""

    @extend_schema(request=schema.Card, responses={200: schema.PaidOrder})
    def post(self, request: Request, order_id: int) -> Answer:
        """Pay. Asking again is harmless: an order is charged once. 402 `card_declined`: another card may be tried."""
        _find(request, order_id)
        errors: FieldErrors = {}
        token = required_text(read_object(request), "card_token", errors, longest=payments.CARD_TOKEN_CHARACTERS)
        check(errors)
        order, payment = checkout.pay(request.user.pk, order_id, token)
        return ok({"order": order_document(order), "payment": payment.document})


class Refund(ApiView):
    """The way back."""

    @commits_in_parts(checkout.PENDING_FIRST)
    @extend_schema(request=None, responses={200: schema.RefundedOrder})
    def post(self, request: Request, order_id: int) -> Answer:
        """Give back what is left of the money. Asking again is harmless."""
        _find(request, order_id)
        order, refund = checkout.refund(request.user.pk, order_id)
        return ok({"order": order_document(order), "refund": refund})


def order_document(order: Order) -> dict[str, Any]:
    """An order as it is told."""
    return {
        "id": order.pk,
        "status": str(order.status),
        "total": payments.money(order.total),
        "currency": order.currency,
        "refunded_amount": payments.money(order.refunded),
        "payment_id": str(order.payment_id) if order.payment_id else None,
        "created_at": timestamp(order.created_at),
        "items": [
            {
                "product_id": line.product_id,
                "name": line.name,
                "unit_price": payments.money(line.unit_price),
                "quantity": line.quantity,
            }
            for line in order.lines.all()
        ],
    }


def _find(request: Request, order_id: int) -> Order:
    if order_id > LARGEST_ID:
        raise Problem("not_found")
    return checkout.find(request.user.pk, order_id)
