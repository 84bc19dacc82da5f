"""Work of payments by the clock (Celery beat)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from celery import shared_task
from django.db import DatabaseError
from django.utils import timezone

from monolith.config.problem import Problem
from monolith.payments import api, sweeper
from monolith.payments.asked import FLAG
from strangler_proxy.contrib.django.ownership import is_owner
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


@shared_task(name="payments.settle", bind=True, max_retries=20, default_retry_delay=60)
def settle(self: Any) -> None:
    """Settle yesterday and the days before that a missed night left out, wherever payments are; idempotent."""
    today = timezone.now().date()
    try:
        for days in range(NIGHTS, 0, -1):
            day = today - timedelta(days=days)
            log.info("payments.settled", date=day.isoformat(), currencies=len(api.settle(day)))
    except Problem as problem:
        raise self.retry(exc=problem) from problem
