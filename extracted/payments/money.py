"""Money: `Decimal` with two decimals inside, a string at the edge. No float anywhere."""

from __future__ import annotations

import re
from decimal import Decimal

CENT = Decimal("0.01")
ZERO = Decimal("0.00")
LARGEST = Decimal("999999.99")

_AMOUNT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,2})?")


def parse_amount(text: str) -> Decimal | None:
    """An amount as clients write it, from 0.01 to 999999.99; None for anything else.

    >>> parse_amount("12.5"), parse_amount("0.00"), parse_amount("1e3"), parse_amount("12.505")
    (Decimal('12.50'), None, None, None)
    """
    if not _AMOUNT.fullmatch(text):
        return None
    amount = Decimal(text).quantize(CENT)
    return amount if CENT <= amount <= LARGEST else None


def format_amount(amount: Decimal) -> str:
    """Exactly two decimals.

    >>> format_amount(Decimal("5"))
    '5.00'
    """
    return f"{amount:.2f}"
