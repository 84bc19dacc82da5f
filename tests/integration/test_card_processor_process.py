"""The card processor as a process: duplicates at once, kill -9 in the middle, webhooks after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.fakes.card_processor.running import TOKEN, WEBHOOK_SECRET, RunningCardProcessor

CHARGE = {"amount": "12.50", "currency": "EUR", "source": "tok_visa", "reference": "intent-1"}


class Receiver:
    """Collects webhooks; answers `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[tuple[str, bytes]] = []
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.headers["Processor-Signature"], body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def processor(tmp_path: Path, receiver: Receiver) -> Iterator[RunningCardProcessor]:
    with RunningCardProcessor(tmp_path, webhook_url=receiver.url) as processor:
        yield processor


def wait_until(condition, within_s: float = 15.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.02)


def post(processor: RunningCardProcessor, key: str, **changes: str) -> httpx.Response:
    return processor.client.post("/v1/charges", json=CHARGE | changes, headers={"Idempotency-Key": key})


async def test_fifty_duplicates_at_once_are_one_charge(processor: RunningCardProcessor) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "capture:1"}
    async with httpx.AsyncClient(base_url=processor.url, headers=headers, timeout=30, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post("/v1/charges", json=CHARGE) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    ledger = await asyncio.to_thread(processor.ledger)
    assert ledger["succeeded_charges"] == 1
    assert ledger["charged_total"] == {"EUR": "12.50"}
    assert ledger["duplicate_references"] == []


def test_answers(processor: RunningCardProcessor) -> None:
    charge = post(processor, "capture:1")
    assert charge.status_code == 201
    assert charge.json() == {
        "id": charge.json()["id"],
        "status": "succeeded",
        "amount": "12.50",
        "currency": "EUR",
        "reference": "intent-1",
    }
    assert post(processor, "capture:1", amount="12.51").status_code == 422
    assert post(processor, "capture:2", source="tok_declined").json()["status"] == "declined"
    assert post(processor, "capture:3", amount="twelve").status_code == 400
    assert httpx.post(processor.url + "/v1/charges", json=CHARGE, trust_env=False).status_code == 401
    path = f"/v1/charges/{charge.json()['id']}/refunds"
    refund = processor.client.post(
        path, json={"amount": "2.50", "reference": "r-1"}, headers={"Idempotency-Key": "refund:1"}
    )
    assert refund.status_code == 201
    assert refund.json()["status"] == "succeeded"
    found = processor.client.get("/v1/operations", params={"idempotency_key": "refund:1"})
    assert found.json() == {"kind": "refund", **refund.json()}
    missing = processor.client.get("/v1/operations", params={"idempotency_key": "refund:2"})
    assert missing.status_code == 404
    assert processor.ledger()["refunded_total"] == {"EUR": "2.50"}


def test_webhooks_are_signed_and_retried_until_acknowledged(
    processor: RunningCardProcessor, receiver: Receiver
) -> None:
    receiver.status = 503
    charge = post(processor, "capture:1").json()
    wait_until(lambda: len(receiver.got) >= 1)
    receiver.status = 204
    wait_until(lambda: len(receiver.got) >= 2)
    signature, body = receiver.got[-1]
    stamp, mac = signature.removeprefix("t=").split(",v1=")
    expected = hmac.new(WEBHOOK_SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert mac == expected
    assert abs(int(stamp) - time.time()) < 60
    assert json.loads(body)["kind"] == "charge.succeeded"
    assert json.loads(body)["data"] == charge
    assert len({body for _, body in receiver.got}) == 1
    time.sleep(1.5)
    assert len(receiver.got) == 2, "an acknowledged event was sent again"


def test_webhook_retry_resumes_after_kill(processor: RunningCardProcessor, receiver: Receiver) -> None:
    receiver.status = 503
    post(processor, "capture:1")
    wait_until(lambda: len(receiver.got) >= 1)
    processor.kill()
    receiver.status = 204
    before = len(receiver.got)
    processor.start()
    wait_until(lambda: len(receiver.got) > before)
    assert len({body for _, body in receiver.got}) == 1


async def test_kill_in_the_middle_of_charges_loses_no_acknowledged_one(processor: RunningCardProcessor) -> None:
    acknowledged: dict[str, str] = {}
    enough = asyncio.Event()
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def charge_on(client: httpx.AsyncClient, worker: int) -> None:
        for number in range(10_000):
            reference = f"{worker}-{number}"
            try:
                answer = await client.post(
                    "/v1/charges",
                    json=CHARGE | {"reference": reference},
                    headers={"Idempotency-Key": f"capture:{reference}"},
                )
            except httpx.TransportError:
                return
            acknowledged[reference] = answer.json()["id"]
            if len(acknowledged) >= 100:
                enough.set()

    async with httpx.AsyncClient(base_url=processor.url, headers=headers, timeout=30, trust_env=False) as client:
        workers = [asyncio.create_task(charge_on(client, number)) for number in range(8)]
        await asyncio.wait_for(enough.wait(), 60)
        await asyncio.to_thread(processor.kill)
        await asyncio.gather(*workers)
    await asyncio.to_thread(processor.start)
    ledger = await asyncio.to_thread(processor.ledger)
    recorded = {charge["reference"]: charge["id"] for charge in ledger["charges"]}
    assert acknowledged.items() <= recorded.items()
    assert ledger["duplicate_references"] == []


def test_timeout_after_charge_records_and_stays_silent(processor: RunningCardProcessor) -> None:
    processor.switch(timeout_after_charge_rate=1.0)
    with pytest.raises(httpx.ReadTimeout):
        processor.client.post("/v1/charges", json=CHARGE, headers={"Idempotency-Key": "capture:1"}, timeout=0.5)
    found = processor.client.get("/v1/operations", params={"idempotency_key": "capture:1"})
    assert found.json()["status"] == "succeeded"
    assert post(processor, "capture:1").json()["id"] == found.json()["id"]


def test_down_answers_503_and_the_books_stay_open(processor: RunningCardProcessor) -> None:
    processor.switch(down=True)
    assert post(processor, "capture:1").status_code == 503
    assert processor.ledger()["charges"] == []
    processor.switch(down=False, decline_rate=1.0, latency_ms=200)
    start = time.monotonic()
    assert post(processor, "capture:1").json()["status"] == "declined"
    assert time.monotonic() - start >= 0.2
