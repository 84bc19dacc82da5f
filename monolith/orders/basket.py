"""The cart in the session: `product id -> quantity`, not an order yet."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.contrib.sessions.backends.base import SessionBase

from monolith.catalog import api as catalog
from monolith.orders.rules import LARGEST_ID, MOST_ITEMS, MOST_OF_ONE, Cart

KEY = "cart"


@dataclass(frozen=True, slots=True)
class Row:
    """A product in the cart."""

    product: catalog.Product
    quantity: int

    @property
    def total(self) -> Decimal:
        """Price of all of them."""
        return self.product.price * self.quantity


def change(session: SessionBase, product_id: str, quantity: str, *, add: bool) -> str:
    """Put into the cart (or set the quantity, 0 takes it out); what is wrong, or an empty text."""
    quantities = read(session)
    number, count = _whole(product_id), _whole(quantity)
    if number is None or not 1 <= number <= LARGEST_ID or number not in catalog.products([number]):
        return "There is no such product."
    if count is None:
        return "Enter a whole number."
    count += quantities.get(number, 0) if add else 0
    if count > MOST_OF_ONE or (number not in quantities and len(quantities) >= MOST_ITEMS):
        return f"At most {MOST_OF_ONE} of a product, and {MOST_ITEMS} products, fit into a cart."
    quantities[number] = count
    write(session, {key: value for key, value in quantities.items() if value > 0})
    return ""


def read(session: SessionBase) -> dict[int, int]:
    """What is in it."""
    return {int(key): int(value) for key, value in session.get(KEY, {}).items()}


def write(session: SessionBase, quantities: dict[int, int]) -> None:
    """Replace what is in it."""
    session[KEY] = {str(key): value for key, value in quantities.items()}


def rows(session: SessionBase) -> list[Row]:
    """What is in it and still for sale."""
    quantities = read(session)
    products = catalog.products(quantities)
    return [Row(products[number], count) for number, count in quantities.items() if number in products]


def cart(found: list[Row]) -> Cart:
    """As `checkout.place` takes it."""
    return Cart({row.product.pk: row.quantity for row in found})


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
