"""Asking the database itself whether this side may still answer for a capability."""

from __future__ import annotations

from django.db import connection


def require_owner(flag: str) -> None:
    """Meet the fence (SQLSTATE `MF001`) unless this side owns `flag`.

    A write meets the fence by itself. A refusal that writes nothing ("wrong password", "no such payment") would not,
    and on the side that is not the owner it may rest on rows that are out of date. Called after such rows were read:
    if this side is still the owner then, they were the truth. See migration `shop` 0001.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT shop_require_owner(%s)", [flag])
