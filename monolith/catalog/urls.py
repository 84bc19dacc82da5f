"""Routes of the catalogue."""

from django.urls import path

from monolith.catalog import views

urlpatterns = [
    path("", views.catalogue_page, name="catalogue"),
    path("products/<slug:slug>/", views.product_page, name="product"),
    path("api/catalog/products", views.Products.as_view()),
    path("api/catalog/products/<int:product_id>", views.OneProduct.as_view()),
    path("api/catalog/categories", views.Categories.as_view()),
]
