"""Going on with what was left in doubt: captures and refunds whose outcome nobody recorded. On the owner only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Now

from monolith.payments import capture, refunding
from monolith.payments.models import Intent, Refund
from monolith.payments.processor import ProcessorUnavailable
from monolith.payments.rules import IntentStatus, RefundStatus

log = structlog.get_logger()

AT_ONCE = 100


def sweep() -> int:
    """One round over at most 100 captures and 100 refunds; how many were brought to an end.

    Each is claimed by a write, which meets the fence where this side is not the owner.
    """
    captures = _in_doubt(Intent.objects.filter(status=IntentStatus.CAPTURING))
    refunds = _in_doubt(Refund.objects.filter(status=RefundStatus.PENDING).select_related("intent"))
    done = sum(_go_on(row, capture.charge, capture.record) for row in captures)
    return done + sum(_go_on(row, refunding.give_back, refunding.record) for row in refunds)


def _in_doubt(rows: QuerySet[Any]) -> list[Any]:
    too_old = Now() - timedelta(seconds=settings.SHOP_IN_DOUBT_AFTER_S)
    return list(rows.filter(updated_at__lt=too_old).order_by("updated_at")[:AT_ONCE])


def _go_on(row: Any, ask: Callable[[Any], Any], record: Callable[[UUID, Any], Any]) -> bool:
    mine = type(row).objects.filter(pk=row.pk, status=row.status, updated_at=row.updated_at)
    if not mine.update(updated_at=Now()):
        return False  # another sweeper, or the request itself, was faster
    try:
        outcome = ask(row)
    except ProcessorUnavailable as error:
        log.warning("processor.unavailable", row=str(row.pk), reason=str(error))
        return False
    record(row.pk, outcome)
    log.info("payment.resumed", row=str(row.pk), succeeded=outcome.succeeded)
    return True
