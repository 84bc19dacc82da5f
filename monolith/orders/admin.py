"""Orders in the admin: to look at."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from monolith.orders.models import Order, OrderLine, OrderRefund


class ReadOnly:
    """Orders are made by ordering."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No."""
        return False


class LineInline(ReadOnly, admin.TabularInline):
    """What was ordered."""

    model = OrderLine
    extra = 0


class RefundInline(ReadOnly, admin.TabularInline):
    """What was given back."""

    model = OrderRefund
    extra = 0


@admin.register(Order)
class OrderAdmin(ReadOnly, admin.ModelAdmin):
    """Orders."""

    list_display = ["id", "user", "status", "total", "currency", "created_at"]
    list_filter = ["status"]
    list_select_related = ["user"]
    search_fields = ["=id", "user__email"]
    show_full_result_count = False
    inlines = [LineInline, RefundInline]
