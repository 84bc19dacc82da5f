"""Failed sign-ins: at most five for one address in five minutes, counted on each side for itself."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from monolith.accounts.models import SignInFailure
from monolith.accounts.rules import FAILURES, WINDOW, retry_after_s
from monolith.accounts.tokens import digest
from monolith.config.ownership import require_owner
from monolith.config.problem import Problem


def check(email: str) -> None:
    """Raise `Problem` `too_many_attempts` while sign-ins for that address are refused."""
    now = timezone.now()
    recent = SignInFailure.objects.filter(email_hash=digest(email), failed_at__gt=now - WINDOW)
    moments = list(recent.order_by("-failed_at").values_list("failed_at", flat=True)[:FAILURES])
    wait_s = retry_after_s(moments, now)
    if wait_s is not None:
        raise Problem("too_many_attempts", headers={"Retry-After": str(wait_s)})


def hold(email: str) -> None:
    """One judgement of a sign-in at a time for one address, until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"auth.sign_in:{digest(email)}"])


@transaction.atomic
def note_failure(email: str) -> None:
    """Count a failed sign-in, or refuse when others were faster: at most the limit are told."""
    hold(email)
    check(email)
    require_owner("auth")
    SignInFailure.objects.create(email_hash=digest(email))
    SignInFailure.objects.filter(failed_at__lt=Now() - WINDOW).delete()


def forget(email: str) -> None:
    """A success clears the failures."""
    SignInFailure.objects.filter(email_hash=digest(email)).delete()
