"""Routes of the views that write."""

from django.urls import include, path

from tests.integration.contrib_project import shadow_late_views, shadow_views

urlpatterns = [
    path("", include("strangler_proxy.contrib.django.urls")),
    *[path(f"do/{name}", shadow_views.view(do)) for name, do in shadow_views.DEEDS.items()],
    *[
        path(f"do/{name.replace('_', '-')}", getattr(shadow_late_views, name))
        for name in ("streamed", "streamed_async", "asynchronous", "threaded", "closing_later", "left_behind")
    ],
    path("state", shadow_late_views.state),
    path("prepare", shadow_late_views.prepare),
]
