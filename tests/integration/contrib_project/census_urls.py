"""Routes of `census_views`, and an admin without protection, as a project has it that never heard of moving."""

from django.contrib import admin
from django.urls import include, path

from tests.integration.contrib_project import census_views as views
from tests.integration.contrib_project.models import Parcel

site = admin.AdminSite()
site.register(Parcel)

urlpatterns = [
    path("", include("strangler_proxy.contrib.django.urls")),
    path("admin/", site.urls),
    path("books/<int:number>/", views.book, name="book"),
    path("add/", views.add),
    path("other/", views.other),
    path("through/<str:way>/", views.through, name="through"),
    path("awaited/", views.awaited),
    path("broken/", views.broken),
]
