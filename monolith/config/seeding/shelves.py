"""Two hundred products with ample stock."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from random import Random

from django.utils.text import slugify

from monolith.catalog.models import Category, Product

PRODUCTS = 200
STOCK = 100_000

_SHELVES = ("Books", "Games", "Garden", "Kitchen", "Lights", "Paper", "Tools", "Travel")
_KINDS = ("Small", "Plain", "Folding", "Heavy", "Striped", "Wooden", "Blue", "Quiet", "Tall", "Round")
_THINGS = {
    "Books": ("Atlas", "Diary", "Novel", "Songbook"),
    "Games": ("Chess Set", "Puzzle", "Kite", "Dice"),
    "Garden": ("Watering Can", "Trowel", "Planter", "Bird House"),
    "Kitchen": ("Teapot", "Ladle", "Bowl", "Grater"),
    "Lights": ("Lantern", "Desk Lamp", "Candle", "Torch"),
    "Paper": ("Notebook", "Envelope Set", "Calendar", "Sketch Pad"),
    "Tools": ("Hammer", "Spirit Level", "Saw", "Tape Measure"),
    "Travel": ("Rucksack", "Flask", "Blanket", "Umbrella"),
}


def make_shelves(rng: Random, first_day: datetime) -> list[Product]:
    """Eight categories, 200 products."""
    shelves = Category.objects.bulk_create([Category(name=name, slug=slugify(name)) for name in _SHELVES])
    products = []
    for number in range(PRODUCTS):
        shelf = shelves[number % len(shelves)]
        things = _THINGS[shelf.name]
        turn = number // len(shelves)
        name = f"{_KINDS[turn % len(_KINDS)]} {things[(turn // len(_KINDS) + turn) % len(things)]} {number + 1}"
        products.append(
            Product(
                name=name,
                slug=slugify(name),
                description=f"{name}, from the {shelf.name.lower()} shelf.",
                price=Decimal(rng.randrange(199, 9_999)) / 100,
                stock=STOCK,
                category=shelf,
                created_at=first_day,
            )
        )
    return Product.objects.bulk_create(products)
