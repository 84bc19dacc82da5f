"""The card processor over HTTP. Every call carries a key, so that a second one finds what the first one did."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import structlog
from django.conf import settings

from monolith.config.remote import client
from monolith.payments.rules import money
from strangler_proxy.contrib.context import outbound_headers

log = structlog.get_logger()

TIMEOUT_S = 5.0
_LATER = frozenset({408, 409, 425, 429})


class ProcessorUnavailable(Exception):
    """No answer, or none that decides anything: what happened is not known; ask again with the same key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the processor decided; `reference` is its own id, None where it refused outright."""

    succeeded: bool
    reference: str | None


def charge(intent_id: uuid.UUID, *, amount: Decimal, currency: str, source: str) -> Outcome:
    """Charge a card once per intent; raises `ProcessorUnavailable`."""
    body = {"amount": money(amount), "currency": currency, "source": source, "reference": str(intent_id)}
    return _post("/v1/charges", f"capture:{intent_id}", body)


def refund(refund_id: uuid.UUID, *, charge_id: str, amount: Decimal) -> Outcome:
    """Give money back once per refund; raises `ProcessorUnavailable`."""
    body = {"amount": money(amount), "reference": str(refund_id)}
    return _post(f"/v1/charges/{charge_id}/refunds", f"refund:{refund_id}", body)


def _post(path: str, key: str, body: dict[str, Any]) -> Outcome:
    try:
        try:
            response = _send(path, key, body)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            response = _send(path, key, body)  # an idle connection that the processor had closed
    except httpx.TransportError as error:
        raise ProcessorUnavailable(type(error).__name__) from error
    if response.status_code >= 500 or response.status_code in _LATER:
        raise ProcessorUnavailable(str(response.status_code))
    if response.status_code >= 400:
        log.warning("processor.request_refused", status=response.status_code, path=path)
        return Outcome(succeeded=False, reference=None)
    try:
        document = json.loads(response.text)
        return Outcome(succeeded=document["status"] == "succeeded", reference=str(document["id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ProcessorUnavailable("an answer that cannot be read") from error


def _send(path: str, key: str, body: dict[str, Any]) -> httpx.Response:
    environment = settings.ENVIRONMENT
    return client(environment.processor_url).post(
        path,
        content=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {environment.processor_token}",
            "Idempotency-Key": key,
            **outbound_headers(),
        },
        timeout=httpx.Timeout(TIMEOUT_S, connect=2.0),
    )
