"""`manage.py seed`: a shop that has been open for a while, the same every time."""

from __future__ import annotations

import random
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from monolith.catalog.models import Product
from monolith.config.seeding.people import ADMIN_EMAIL, PASSWORD, make_people
from monolith.config.seeding.shelves import make_shelves
from monolith.config.seeding.trade import make_trade

SEED = 20_260_101
FIRST_DAY = datetime(2026, 1, 1, 9, tzinfo=UTC)


class Command(BaseCommand):
    """All in one transaction: an interrupted seed leaves an empty shop."""

    help = "Make 500 users, 200 products, 5,000 orders and payments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Options."""
        parser.add_argument("--if-empty", action="store_true", help="do nothing where there are products already")

    def handle(self, *args: Any, if_empty: bool, **options: Any) -> None:
        """Seed."""
        if Product.objects.exists():
            if if_empty:
                self.stdout.write("the shop has products already: nothing to do")
                return
            raise CommandError("the shop has products already; seed an empty database, or use --if-empty")
        rng = random.Random(SEED)
        with transaction.atomic():
            people = make_people(rng, FIRST_DAY)
            products = make_shelves(rng, FIRST_DAY)
            make_trade(rng, FIRST_DAY, people, products)
        self.stdout.write(f"seeded; sign in as {ADMIN_EMAIL} or user2@example.com with password: {PASSWORD}")
