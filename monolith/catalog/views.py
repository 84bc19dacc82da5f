"""Looking around: JSON and pages. Nobody needs to be signed in."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from monolith.catalog import schema
from monolith.catalog.models import CURRENCY, Category, Product
from monolith.config.api import ApiView, ok
from monolith.config.body import check
from monolith.config.problem import Answer, FieldErrors

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 200
PER_PAGE = 24
LARGEST_ID = 2**63 - 1


class Products(ApiView):
    """What is sold."""

    public = True

    @extend_schema(
        operation_id="catalog_products_list",
        responses={200: schema.ProductPage},
        parameters=[
            OpenApiParameter("category", str, description="slug"),
            OpenApiParameter("limit", int, description="1 to 200"),
            OpenApiParameter("after", int, description="id of the last product seen"),
        ],
        auth=[],
    )
    def get(self, request: Request) -> Answer:
        """List, by id."""
        limit, after = _page(request)
        rows = Product.objects.filter(is_active=True, pk__gt=after).select_related("category")
        if "category" in request.query_params:
            rows = rows.filter(category__slug=request.query_params["category"])
        found = list(rows.order_by("pk")[: limit + 1])
        following = found[limit - 1].pk if len(found) > limit else None
        return ok({"results": [_document(product) for product in found[:limit]], "next": following})


class OneProduct(ApiView):
    """One product."""

    public = True

    @extend_schema(responses={200: schema.Product}, auth=[])
    def get(self, request: Request, product_id: int) -> Answer:
        """Read."""
        rows = Product.objects.select_related("category").filter(is_active=True, pk__lte=LARGEST_ID)
        return ok(_document(get_object_or_404(rows, pk=product_id)))


class Categories(ApiView):
    """The shelves."""

    public = True

    @extend_schema(responses={200: schema.CategoryList}, auth=[])
    def get(self, request: Request) -> Answer:
        """List, by name."""
        return ok({"results": [{"slug": row.slug, "name": row.name} for row in Category.objects.all()]})


def catalogue_page(request: HttpRequest) -> HttpResponse:
    """The first page: products, by category."""
    rows = Product.objects.filter(is_active=True).select_related("category").order_by("pk")
    chosen = request.GET.get("category", "")
    if chosen:
        rows = rows.filter(category__slug=chosen)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    facts = {"page": page, "categories": Category.objects.all(), "chosen": chosen, "currency": CURRENCY}
    return render(request, "shop/catalogue.html", facts)


def product_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One product, with a button to put it into the cart."""
    product = get_object_or_404(Product.objects.select_related("category"), slug=slug, is_active=True)
    return render(request, "shop/product.html", {"product": product, "currency": CURRENCY})


def _page(request: Request) -> tuple[int, int]:
    errors: FieldErrors = {}
    limit = _number(request, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT, errors)
    after = _number(request, "after", 0, 0, LARGEST_ID, errors)
    check(errors)
    return limit, after


def _number(request: Request, name: str, default: int, least: int, most: int, errors: FieldErrors) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    errors[name] = [f"Must be from {least} to {most}."]
    return default


def _document(product: Product) -> dict[str, Any]:
    return {
        "id": product.pk,
        "name": product.name,
        "slug": product.slug,
        "description": product.description,
        "price": f"{product.price:.2f}",
        "currency": CURRENCY,
        "stock": product.stock,
        "category": product.category.slug,
    }
