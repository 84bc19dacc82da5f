"""Work of payments by the clock (Celery beat)."""

from __future__ import annotations

from datetime import date, timedelta

import structlog
from celery import shared_task
from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils import timezone

from monolith.payments import settlement, sweeper
from monolith.payments.asked import FLAG
from strangler_proxy.contrib.django.handover import to_other_side
from strangler_proxy.contrib.django.ownership import is_owner
from strangler_proxy.contrib.handover import HandingOverTask, HandOver
from strangler_proxy.contrib.record import fence_in

log = structlog.get_logger()

NIGHTS = 3


@shared_task(name="payments.sweep")
def sweep() -> None:
    """Go on with captures and refunds in doubt, while this side is the owner; the owner's own sweeper does else."""
    if not is_owner(FLAG):
        return
    try:
        sweeper.sweep()
    except DatabaseError as error:
        if fence_in(error) is None:
            raise
        log.info("payments.sweep_fenced")  # nothing is lost: what is in doubt is the new owner's now


@shared_task(name="payments.settle")
def settle() -> None:
    """Have yesterday settled, and the days before that a missed night left out: one task for each."""
    today = timezone.now().date()
    for days in range(NIGHTS, 0, -1):
        settle_day.delay((today - timedelta(days=days)).isoformat())


@shared_task(
    name="payments.settle_day",
    base=HandingOverTask,
    hand_over=HandOver(flag=FLAG, write=to_other_side),
    autoretry_for=(OperationalError, InterfaceError),
    retry_kwargs={"max_retries": 20, "countdown": 60},
)
def settle_day(day: str) -> None:
    """Settle a day (`YYYY-MM-DD`, UTC), once per currency, or hand it to the side that owns payments by now."""
    rows = settlement.settle_day(date.fromisoformat(day))
    log.info("payments.settled", date=day, currencies=len(rows))
