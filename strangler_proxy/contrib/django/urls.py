"""`path("", include("strangler_proxy.contrib.django.urls"))`: /healthz, /readyz, /metrics."""

from django.urls import path

from strangler_proxy.contrib.django import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics_page),
]
