"""What is sold, and how much of it there is."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """Stays in the monolith."""

    name = "monolith.catalog"
