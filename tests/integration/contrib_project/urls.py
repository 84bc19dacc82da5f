"""Routes and admin."""

from django.contrib import admin
from django.urls import include, path

from strangler_proxy.contrib.django.admin import OwnedAdmin
from tests.integration.contrib_project import views
from tests.integration.contrib_project.models import Parcel


class ParcelAdmin(OwnedAdmin, admin.ModelAdmin):
    """Read-only while another system owns the rows."""

    strangler_flag = "parcels"


NAMES = [
    "plain",
    "uncaught",
    "swallowed",
    "swallowed_in_atomic",
    "goes_on_after",
    "copied",
    "committed_before",
    "session_before",
    "intent_before",
    "streamed",
    "streamed_late",
    "streamed_async",
    "faulty",
    "through_seam",
    "awaited",
    "owner",
    "enqueued",
    "sign_in",
    "context",
]

site = admin.AdminSite()
site.register(Parcel, ParcelAdmin)

urlpatterns = [
    path("", include("strangler_proxy.contrib.django.urls")),
    path("admin/", site.urls),
    *[path(name.replace("_", "-"), getattr(views, name)) for name in NAMES],
]
