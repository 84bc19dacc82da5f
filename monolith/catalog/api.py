"""The seam of the catalogue: looking products up, and taking them out of stock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import F

from monolith.catalog.models import CURRENCY, Category, Product
from monolith.config.problem import Problem

__all__ = ["CURRENCY", "Category", "Product", "products", "put_back", "take"]


def products(ids: Iterable[int]) -> dict[int, Product]:
    """The products that are for sale among those ids."""
    return Product.objects.filter(is_active=True).in_bulk(list(ids))


def take(wanted: Mapping[int, int]) -> dict[int, Product]:
    """Take `product id -> quantity` out of stock, in the caller's transaction.

    One conditional UPDATE each, in the order of ids: it cannot oversell, and two orders cannot wait for each other.
    Raises `Problem` `out_of_stock`; the caller's transaction is then to be rolled back.
    """
    found = products(wanted)
    for product_id in sorted(wanted):
        enough = Product.objects.filter(pk=product_id, is_active=True, stock__gte=wanted[product_id])
        if not enough.update(stock=F("stock") - wanted[product_id]):
            name = found[product_id].name if product_id in found else f"product {product_id}"
            raise Problem("out_of_stock", product=name)
    return found


def put_back(given: Mapping[int, int]) -> None:
    """Put `product id -> quantity` back into stock, in the caller's transaction."""
    for product_id in sorted(given):
        Product.objects.filter(pk=product_id).update(stock=F("stock") + given[product_id])
