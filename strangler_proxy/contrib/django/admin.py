"""Django's admin on a model whose rows move: read-only, with a sentence, while another system owns them."""

from __future__ import annotations

from typing import Any, Optional

from django.contrib import messages
from django.http import HttpRequest, HttpResponse

from strangler_proxy.contrib.django.ownership import is_owner


class OwnedAdmin:
    """Mixin to put before `ModelAdmin` (or an inline); set `strangler_flag`.

    >>> class ParcelAdmin(OwnedAdmin, admin.ModelAdmin):     # doctest: +SKIP
    ...     strangler_flag = "parcels"
    """

    strangler_flag: str
    strangler_sentence = (
        "Another system owns these rows at the moment. This is a copy, some moments old; it cannot be changed here."
    )

    def owns(self, request: HttpRequest) -> bool:
        """May rows be changed here? Asked once per request, so that one page does not contradict itself."""
        known: dict[str, bool] = request.__dict__.setdefault("_strangler_owns", {})
        if self.strangler_flag not in known:
            known[self.strangler_flag] = is_owner(self.strangler_flag)
        return known[self.strangler_flag]

    def has_add_permission(self, request: HttpRequest, *args: Any, **kwargs: Any) -> bool:
        """Only while this side is the owner."""
        parent: Any = super()
        return self.owns(request) and bool(parent.has_add_permission(request, *args, **kwargs))

    def has_change_permission(self, request: HttpRequest, obj: Optional[Any] = None) -> bool:
        """Only while this side is the owner."""
        parent: Any = super()
        return self.owns(request) and bool(parent.has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Optional[Any] = None) -> bool:
        """Only while this side is the owner."""
        parent: Any = super()
        return self.owns(request) and bool(parent.has_delete_permission(request, obj))

    def has_view_permission(self, request: HttpRequest, obj: Optional[Any] = None) -> bool:
        """Whoever may change may still look."""
        parent: Any = super()
        return bool(parent.has_view_permission(request, obj) or parent.has_change_permission(request, obj))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """None while another system owns the rows: nobody knows which of them write."""
        parent: Any = super()
        return dict(parent.get_actions(request)) if self.owns(request) else {}

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The list, with the sentence above it."""
        self._say_so(request)
        parent: Any = super()
        response: HttpResponse = parent.changelist_view(request, *args, **kwargs)
        return response

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form, with the sentence above it."""
        self._say_so(request)
        parent: Any = super()
        response: HttpResponse = parent.changeform_view(request, *args, **kwargs)
        return response

    def _say_so(self, request: HttpRequest) -> None:
        if request.method in ("GET", "HEAD") and not self.owns(request):
            messages.warning(request, self.strangler_sentence, fail_silently=True)
