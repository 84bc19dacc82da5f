"""Receipts in the admin: to look at."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from monolith.notifications.models import MailPreference, Receipt


@admin.register(Receipt)
class ReceiptAdmin(admin.ModelAdmin):
    """Receipts."""

    list_display = ["payment_id", "user", "amount", "currency", "created_at", "sent_at"]
    list_select_related = ["user"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They follow payments."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was sent was sent."""
        return False


@admin.register(MailPreference)
class MailPreferenceAdmin(admin.ModelAdmin):
    """Who wants what."""

    list_display = ["user", "receipts"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]
