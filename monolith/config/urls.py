"""Every route of the monolith."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView

urlpatterns = [
    path("", include("strangler_proxy.contrib.django.urls")),
    path("", include("monolith.catalog.urls")),
    path("", include("monolith.accounts.urls")),
    path("", include("monolith.orders.urls")),
    path("", include("monolith.payments.urls")),
    path("api/openapi.json", SpectacularJSONAPIView.as_view(authentication_classes=[])),
    path("admin/", admin.site.urls),
]

handler400 = "monolith.config.errors.bad_request"
handler403 = "monolith.config.errors.forbidden"
handler404 = "monolith.config.errors.not_found"
handler500 = "monolith.config.errors.server_error"
