"""A command that reads rows that move."""

from typing import Any

from django.core.management.base import BaseCommand

from tests.integration.contrib_project.models import Parcel


class Command(BaseCommand):
    """Counts parcels."""

    def handle(self, **options: Any) -> None:
        """Say how many there are."""
        self.stdout.write(f"{Parcel.objects.count()} parcels")
