"""Shapes of answers, for the OpenAPI document only."""

from __future__ import annotations

from rest_framework import serializers


class Product(serializers.Serializer):
    """A thing on a shelf."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    slug = serializers.SlugField()
    description = serializers.CharField(allow_blank=True)
    price = serializers.DecimalField(max_digits=10, decimal_places=2)
    currency = serializers.CharField()
    stock = serializers.IntegerField()
    category = serializers.SlugField()


class ProductPage(serializers.Serializer):
    """Some products, and where to go on."""

    results = Product(many=True)
    next = serializers.IntegerField(allow_null=True)


class Category(serializers.Serializer):
    """A shelf."""

    slug = serializers.SlugField()
    name = serializers.CharField()


class CategoryList(serializers.Serializer):
    """The shelves."""

    results = Category(many=True)
