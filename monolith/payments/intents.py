"""Making, listing and reading payments."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Q

from monolith.config.api import ok
from monolith.config.problem import Answer, Problem
from monolith.payments import keys
from monolith.payments.asked import Asked
from monolith.payments.documents import intent_document
from monolith.payments.models import Intent
from monolith.payments.rules import make_cursor, parse_new_intent, parse_page, parse_uuid, read_key

ORDERS = "orders"
"""The scope of a token that may name an order."""


def create(asked: Asked) -> Answer:
    """The answer of `POST /api/payments/intents`: one transaction, nothing outside of the database."""
    key = read_key(asked.key)
    with transaction.atomic():
        claim = keys.claim(asked, key, "payments.create")
        if claim.stored is not None:
            return claim.stored
        new = parse_new_intent(asked.document())
        if new.order_id is not None and ORDERS not in asked.scopes:
            raise Problem("forbidden")
        intent = Intent.objects.create(
            user_id=asked.user_id,
            order_id=new.order_id,
            amount=new.amount,
            currency=new.currency,
            card_token=new.card_token,
            description=new.description,
        )
        answer = ok(intent_document(intent), 201, Location=f"/api/payments/intents/{intent.pk}")
        return keys.store(asked.user_id, key, answer)


def read(user_id: int, text: str) -> Answer:
    """The answer of `GET /api/payments/intents/ID`."""
    intent_id = parse_uuid(text)
    intent = None if intent_id is None else Intent.objects.filter(pk=intent_id, user_id=user_id).first()
    if intent is None:
        raise Problem("not_found")
    return ok(intent_document(intent))


def page(user_id: int, query: Mapping[str, str]) -> Answer:
    """The answer of `GET /api/payments/intents`: newest first, a cursor to go on with."""
    limit, after = parse_page(query)
    rows = Intent.objects.filter(user_id=user_id)
    if after is not None:
        moment, intent_id = after
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=intent_id))
    found = list(rows.order_by("-created_at", "-pk").prefetch_related("refunds")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    following = make_cursor(found[-1].created_at, found[-1].pk) if more else None
    return ok({"results": [intent_document(intent) for intent in found], "next": following})
