"""The card processor, as the service sees it: two calls, each at most once per key, and one kind of failure.

Whoever calls has committed what it is about to ask for. An answer that does not come leaves the outcome in doubt:
the same call with the same key tells it later, and charges nobody twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import structlog
from prometheus_client import Counter, Histogram

from extracted.payments.intent import Intent, Refund
from extracted.payments.money import format_amount
from strangler_proxy.contrib.context import outbound_headers

CONNECT_S = 2.0
AT_ONCE = 50
_ID_CHARACTERS = 64

CALLS = Counter("payments_processor_calls_total", "Calls to the card processor.", ("call", "outcome"))
SECONDS = Histogram("payments_processor_call_seconds", "Seconds a call to the card processor took.", ("call",))

log = structlog.get_logger()


class ProcessorUnavailable(Exception):
    """The card processor did not tell the outcome: it may have acted or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the card processor recorded: the id of its charge or refund, and whether it succeeded."""

    id: str
    succeeded: bool


class CardProcessor:
    """A client with a bounded number of connections; `timeout_s` bounds each call as a whole."""

    def __init__(self, *, url: str, token: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=4.0),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> CardProcessor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def charge(self, intent: Intent) -> Outcome:
        """Charge an intent, or hear again what became of it; raises `ProcessorUnavailable`."""
        return await self._call(
            "charge",
            "/v1/charges",
            key=f"capture:{intent.id}",
            body={
                "amount": format_amount(intent.amount),
                "currency": intent.currency,
                "source": intent.card_token,
                "reference": str(intent.id),
            },
            failed="declined",
        )

    async def refund(self, intent: Intent, refund: Refund) -> Outcome:
        """Refund a part of a charge, or hear again what became of it; raises `ProcessorUnavailable`."""
        return await self._call(
            "refund",
            f"/v1/charges/{intent.processor_charge_id}/refunds",
            key=f"refund:{refund.id}",
            body={"amount": format_amount(refund.amount), "reference": str(refund.id)},
            failed="failed",
        )

    async def _call(self, call: str, path: str, *, key: str, body: Mapping[str, str], failed: str) -> Outcome:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._send(path, key, body)
            outcome = _outcome(response, failed)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            reason = str(error) if type(error) is ValueError else type(error).__name__
            log.warning("processor.outcome_unknown", call=call, key=key, reason=reason)
            CALLS.labels(call, "unknown").inc()
            raise ProcessorUnavailable(f"{call} {key}: {reason}") from error
        finally:
            SECONDS.labels(call).observe(time.perf_counter() - started)
        CALLS.labels(call, "succeeded" if outcome.succeeded else failed).inc()
        return outcome

    async def _send(self, path: str, key: str, body: Mapping[str, str]) -> httpx.Response:
        headers = {"Idempotency-Key": key, **outbound_headers()}
        try:
            return await self._client.post(path, json=body, headers=headers)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # An idle connection that the other end had closed, or one that broke: with its key it is sent once more.
            return await self._client.post(path, json=body, headers=headers)


def _outcome(response: httpx.Response, failed: str) -> Outcome:
    if response.status_code != 201:
        raise ValueError(f"status {response.status_code}")
    document: Any = response.json()
    if not isinstance(document, dict):
        raise ValueError("not an object")
    operation_id, status = document.get("id"), document.get("status")
    if not isinstance(operation_id, str) or not 1 <= len(operation_id) <= _ID_CHARACTERS:
        raise ValueError("no id")
    if status not in ("succeeded", failed):
        raise ValueError("unknown status")
    return Outcome(id=operation_id, succeeded=status == "succeeded")
