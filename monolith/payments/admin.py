"""Payments in the admin: read-only by nature; refunds go through the seam, at every stage."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from monolith.config.problem import Problem
from monolith.payments import api
from monolith.payments.asked import FLAG
from monolith.payments.models import Intent, Refund, Settlement, WebhookEvent
from strangler_proxy.contrib.django.admin import OwnedAdmin


class OwnedPayments(OwnedAdmin):
    """Rows of the capability."""

    strangler_flag = FLAG

    def has_add_permission(self, request: HttpRequest, *args: Any, **kwargs: Any) -> bool:
        """Payments are made by paying."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The books are kept."""
        return False


class RefundInline(OwnedPayments, admin.TabularInline):
    """A payment's refunds."""

    model = Refund
    extra = 0
    fields = readonly_fields = ["id", "amount", "status", "reason", "processor_refund_id", "created_at"]
    can_delete = False


@admin.register(Intent)
class IntentAdmin(OwnedPayments, admin.ModelAdmin):
    """Payments."""

    list_display = ["id", "user", "amount", "currency", "status", "refunded_amount", "created_at"]
    list_filter = ["status", "currency"]
    search_fields = ["=id", "user__email", "=processor_charge_id"]
    list_select_related = ["user"]
    show_full_result_count = False
    raw_id_fields = ["user", "order"]
    readonly_fields = [
        "id", "user", "order", "amount", "currency", "status", "captured_amount", "refunded_amount", "card_token",
        "processor_charge_id", "created_at", "updated_at",
    ]  # fmt: skip
    inlines = [RefundInline]
    actions = ["refund_rest"]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """`refund_rest` also while another system owns the rows: it does not write them, it asks the owner."""
        found = super().get_actions(request)
        if not request.user.has_perm("payments.change_intent"):
            return {}
        action = self.get_action("refund_rest")
        return {**found, "refund_rest": action} if action else found

    @admin.action(description="Refund what is left")
    def refund_rest(self, request: HttpRequest, rows: QuerySet[Intent]) -> None:
        """Through the seam, in the customer's name; one key per payment and amount given back so far."""
        for row in rows[:50]:
            left = row.captured_amount - row.refunded_amount
            try:
                done = api.refund(
                    user_id=row.user_id,
                    payment_id=str(row.pk),
                    amount=left,
                    reason="refunded by the shop",
                    key=f"admin:{row.pk}:{api.money(row.refunded_amount)}",
                )
            except Problem as problem:
                self.message_user(request, f"{row.pk}: {problem.detail}", messages.ERROR)
            else:
                self.message_user(request, f"{row.pk}: refund of {done['amount']} {row.currency} {done['status']}")


@admin.register(Settlement)
class SettlementAdmin(OwnedPayments, admin.ModelAdmin):
    """Settlements."""

    list_display = ["date", "currency", "captured_total", "refunded_total", "payments"]
    list_filter = ["currency"]
    date_hierarchy = "date"
    readonly_fields = ["date", "currency", "captured_total", "refunded_total", "payments", "created_at"]


@admin.register(WebhookEvent)
class WebhookEventAdmin(OwnedPayments, admin.ModelAdmin):
    """Events of the card processor."""

    list_display = ["id", "kind", "received_at"]
    list_filter = ["kind"]
    readonly_fields = ["id", "kind", "payload", "received_at"]
