"""What a day came to, by currency: written once."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from django.db import transaction
from django.db.models import Count, Sum

from monolith.config.api import ok
from monolith.config.ownership import require_owner
from monolith.config.problem import Answer, Problem
from monolith.payments.asked import FLAG, Asked
from monolith.payments.documents import settlement_document
from monolith.payments.models import Intent, Settlement
from monolith.payments.rules import PAID, parse_date

SETTLEMENT = "settlement"
"""The scope of a token that may settle."""


def settle(asked: Asked) -> Answer:
    """The answer of `POST /api/payments/settlements`: idempotent per date and currency."""
    day = parse_date(asked.document())
    if SETTLEMENT not in asked.scopes:
        raise Problem("forbidden")
    rows = settle_day(day)
    return ok({"date": day.isoformat(), "settlements": [settlement_document(row) for row in rows]})


@transaction.atomic
def settle_day(day: date) -> list[Settlement]:
    """The settlements of a day (UTC), by currency; written once each. Meets the fence where this side is no owner."""
    there = set(Settlement.objects.filter(date=day).values_list("currency", flat=True))
    new = [row for row in _totals(day) if row.currency not in there]
    if new:
        Settlement.objects.bulk_create(new, ignore_conflicts=True)
    else:
        require_owner(FLAG)
    return list(Settlement.objects.filter(date=day).order_by("currency"))


def _totals(day: date) -> list[Settlement]:
    begin = datetime.combine(day, time(), tzinfo=UTC)
    paid = Intent.objects.filter(created_at__gte=begin, created_at__lt=_next(begin), status__in=PAID)
    by_currency = (
        paid.order_by("currency")
        .values("currency")
        .annotate(captured=Sum("captured_amount"), refunded=Sum("refunded_amount"), payments=Count("pk"))
    )
    return [
        Settlement(
            date=day,
            currency=row["currency"],
            captured_total=row["captured"],
            refunded_total=row["refunded"],
            payments=row["payments"],
        )
        for row in by_currency
    ]


def _next(begin: datetime) -> datetime:
    try:
        return begin + timedelta(days=1)
    except OverflowError:  # 9999-12-31
        return datetime.max.replace(tzinfo=UTC)
