"""Rules of orders: states, and what may be ordered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import TextChoices

from monolith.config.body import REQUIRED, check

MOST_ITEMS = 50
MOST_OF_ONE = 100
LARGEST_ID = 2**63 - 1
BAD_ITEMS = f"Must be a list of 1 to {MOST_ITEMS} items."
BAD_ITEM = f"Each item has a product_id and a quantity from 1 to {MOST_OF_ONE}."


class OrderStatus(TextChoices):
    """States of an order. A pending one is committed and not paid."""

    PENDING = "pending"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


PAID = (OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED, OrderStatus.REFUNDED)
REFUNDABLE = (OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED)


@dataclass(frozen=True, slots=True)
class Cart:
    """`product id -> quantity`, at least one and within the limits."""

    quantities: Mapping[int, int]


def parse_items(body: dict[str, Any]) -> Cart:
    """Read `items` of an order; the same product twice adds up. Raises `Problem` `invalid`.

    >>> parse_items({"items": [{"product_id": 3, "quantity": 1}, {"product_id": 3, "quantity": 1}]})
    Cart(quantities={3: 2})
    """
    items = body.get("items")
    if items is None:
        check({"items": [REQUIRED]})
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        check({"items": [BAD_ITEMS]})
    quantities: dict[int, int] = {}
    for item in items or []:
        product_id, quantity = (item.get("product_id"), item.get("quantity")) if isinstance(item, dict) else (0, 0)
        if type(product_id) is not int or type(quantity) is not int or not 1 <= product_id <= LARGEST_ID:
            check({"items": [BAD_ITEM]})
            continue
        quantities[product_id] = quantities.get(product_id, 0) + quantity
        if quantity < 1 or quantities[product_id] > MOST_OF_ONE:
            check({"items": [BAD_ITEM]})
    return Cart(quantities)
