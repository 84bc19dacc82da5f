"""People in the admin: read-only while another side owns them, all but what stays here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from monolith.accounts.local import FLAG
from monolith.accounts.models import RefreshToken, User
from strangler_proxy.contrib.django.admin import OwnedAdmin


@admin.register(User)
class UserAdmin(OwnedAdmin, admin.ModelAdmin):
    """People."""

    strangler_flag = FLAG
    list_display = ["id", "email", "name", "is_active", "is_staff", "created_at", "last_login"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email", "name"]
    show_full_result_count = False
    fields = ["email", "name", "is_active", "is_staff", "is_superuser", "groups", "created_at", "last_login"]
    readonly_fields = ["email", "created_at", "last_login"]
    filter_horizontal = ["groups"]

    def has_add_permission(self, request: HttpRequest, *args: Any, **kwargs: Any) -> bool:
        """People register themselves."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Orders and payments hold on to people: make them inactive instead."""
        return False


@admin.register(RefreshToken)
class RefreshTokenAdmin(OwnedAdmin, admin.ModelAdmin):
    """Refresh tokens, without what would let anybody use them."""

    strangler_flag = FLAG
    list_display = ["id", "user", "created_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]
    fields = readonly_fields = ["id", "user", "created_at", "expires_at"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, *args: Any, **kwargs: Any) -> bool:
        """They come from signing in."""
        return False
