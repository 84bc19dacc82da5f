"""Signed webhooks: sent at once, retried until acknowledged, also after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time

import httpx

from .desk import Desk
from .ledger import Event
from .settings import ProcessorSettings

log = logging.getLogger("card_processor")

SIGNATURE_HEADER = "Processor-Signature"
TIMEOUT_S = 10.0
AT_ONCE = 8
LONGEST_SLEEP_S = 1.0


def sign(secret: str, body: bytes, at: int) -> str:
    """The header's value: `t=UNIX,v1=HEX`, HMAC-SHA256 over `UNIX.RAWBODY`."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Courier:
    """Delivers due events, `AT_ONCE` at a time; `wake()` it after an operation was recorded."""

    def __init__(self, desk: Desk, settings: ProcessorSettings) -> None:
        self._desk, self._settings = desk, settings
        self._new = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        self._new.set()

    async def run(self) -> None:
        """Until cancelled."""
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            while True:
                self._new.clear()
                if not await self._open():
                    await asyncio.sleep(LONGEST_SLEEP_S)
                elif not await self._round(client):
                    await self._sleep()

    async def _open(self) -> bool:
        switches = await self._desk.run(lambda ledger: ledger.switches())
        return bool(self._settings.webhook_url) and not switches.down

    async def _round(self, client: httpx.AsyncClient) -> int:
        events = await self._desk.run(lambda ledger: ledger.due_events(AT_ONCE))
        await asyncio.gather(*(self._deliver(client, event) for event in events))
        return len(events)

    async def _deliver(self, client: httpx.AsyncClient, event: Event) -> None:
        body = event.body.encode()
        signature = sign(self._settings.webhook_secret, body, int(time.time()))
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
        try:
            answer = await client.post(self._settings.webhook_url, content=body, headers=headers)
            acknowledged, outcome = answer.is_success, str(answer.status_code)
        except httpx.HTTPError as error:
            acknowledged, outcome = False, type(error).__name__
        if acknowledged:
            await self._desk.run(lambda ledger: ledger.delivered(event.id))
        else:
            log.info("webhook.not_acknowledged id=%s attempt=%d outcome=%s", event.id, event.attempts + 1, outcome)
            await self._desk.run(lambda ledger: ledger.undelivered(event))

    async def _sleep(self) -> None:
        due = await self._desk.run(lambda ledger: ledger.next_attempt_in())
        wait_s = LONGEST_SLEEP_S if due is None else min(LONGEST_SLEEP_S, max(due, 0.05))
        try:
            await asyncio.wait_for(self._new.wait(), wait_s)
        except TimeoutError:
            pass
