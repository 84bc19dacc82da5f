"""Payments: intents, capture, refunds, webhooks, settlement."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Capability `payments`."""

    name = "monolith.payments"
