"""Orders: from cart to paid."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """Stays in the monolith."""

    name = "monolith.orders"
