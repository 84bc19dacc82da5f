"""Targeting key to bucket: sticky, uniform, and monotone in the weight."""

from __future__ import annotations

import xxhash

BUCKETS = 10_000
"""Buckets are 0..9999 and weights 0..10000: served by extracted if bucket < weight."""


def bucket(salt: str, targeting_key: str) -> int:
    """The bucket of a subject: `xxh64(salt + targeting key) % 10000`, the same as Envoy's weighted clusters use.

    >>> bucket("auth", "ada@example.com") == bucket("auth", "ada@example.com")
    True
    """
    return xxhash.xxh64_intdigest((salt + targeting_key).encode("utf-8", "surrogateescape")) % BUCKETS


def parse_weight(text: str) -> int:
    """Read `25%`, `0.5%` or a plain bucket count `2500` as an integer weight 0..10000.

    Raises ValueError with the range when it is not one.

    >>> parse_weight("25%"), parse_weight("0.01%"), parse_weight("2500")
    (2500, 1, 2500)
    """
    from decimal import Decimal, InvalidOperation

    raw = text.strip()
    try:
        number = Decimal(raw.removesuffix("%"))
    except InvalidOperation:
        raise ValueError(f"weight {text!r} is not a number: write 25% or 0..10000") from None
    scaled = number * 100 if raw.endswith("%") else number
    if not scaled.is_finite() or not 0 <= scaled <= BUCKETS:
        raise ValueError(f"weight {text!r} is outside 0 % .. 100 % (0..10000)")
    if scaled != scaled.to_integral_value():
        raise ValueError(f"weight {text!r} is finer than 0.01 %")
    return int(scaled)
