"""What a capture notes, what it answers from, and that a mirrored call never leaves the process."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import importlib
import json
import smtplib
import socketserver
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.contrib import shadow_calls, shadow_smtp
from strangler_proxy.contrib.django import shadow_driver
from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured, capturing, current, plain
from strangler_proxy.core import shadow_wire as wire
from strangler_proxy.core.shadow_wire import ShadowRequest, ShadowRole

shadow_calls.install_http()


def request(role: str) -> ShadowRequest:
    return ShadowRequest(role=ShadowRole(role), id="0f" * 16, at=1, flag="", body_sha256="", recorded_sha256="")


class Kind(Enum):
    ONE = "one"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.decimals()
        | st.datetimes(),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner) | st.tuples(inner),
        max_leaves=20,
    )
)
def test_anything_that_code_passes_around_becomes_json(value: Any) -> None:
    wire.decode_effects(wire.encode_effects([{"kind": "task", "detail": plain(value)}]))


def test_values_are_said_as_what_they_are() -> None:
    told = plain(
        [Decimal("1.10"), datetime(2026, 1, 2, 3, tzinfo=UTC), date(2026, 1, 2), UUID(int=5), b"\xff", b"text",
         Kind.ONE, {2, 1}, timedelta(seconds=1), object(), float("nan")]
    )  # fmt: skip
    assert told == [
        "1.10", "2026-01-02T03:00:00+00:00", "2026-01-02", str(UUID(int=5)), "base64:/w==", "text", "one", [1, 2],
        "0:00:01", "(object)", "nan",
    ]  # fmt: skip


def test_what_is_deep_long_or_much_is_cut() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert len(json.dumps(plain(deep))) < 200
    assert len(plain("x" * 10**6)) < 2_000
    assert len(plain(list(range(10**5)))) <= 1_000


def test_too_many_effects_are_told_as_too_large() -> None:
    capture = Capture(request("record"))
    for number in range(1_001):
        capture.note("mail", number)
    assert capture.told() == ["too_large"]


def test_what_is_noted_after_the_head_has_left_is_not_told() -> None:
    capture = Capture(request("mirror"))
    capture.note("mail", 1)
    values = capture.told()
    capture.note("mail", 2)
    assert capture.told() == values
    assert wire.decode_effects(values) == [{"kind": "mail", "detail": 1}]


def test_after_a_mirrored_request_nothing_is_noted_any_more() -> None:
    with capturing(Capture(request("mirror"))) as capture:
        assert current.get() is capture
    assert current.get() is None
    with pytest.raises(NotCaptured, match="ended"):
        capture.note("mail", 1)
    with capturing(Capture(request("record"))) as other:
        pass
    other.note("mail", 1)


def test_each_recorded_call_answers_once_and_the_last_again() -> None:
    calls = [{"kind": "call", "detail": {"n": number}} for number in (1, 2)]
    capture = Capture(request("mirror"), calls)
    assert [capture.take_recorded("call", lambda _: 1)["n"] for _ in range(3)] == [1, 2, 1]
    assert capture.take_recorded("mail", lambda _: 1) is None
    assert capture.take_recorded("call", lambda _: 0) is None


class _Answering(BaseHTTPRequestHandler):
    seen: list[str] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.path} {body.decode()}")
        answer = json.dumps({"id": f"ch_{len(self.seen)}", "sum": "1.10"}).encode()
        packed = gzip.compress(answer) if "packed" in self.path else answer
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        if "packed" in self.path:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def charge(url: str, body: Any = None) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.post(url, json=body or {"amount": "3.00"}, headers={"Idempotency-Key": "k"})


@pytest.mark.parametrize("path", ["/charges", "/charges/packed"])
def test_a_call_is_made_and_noted_once_and_mirrored_without_being_made(server: str, path: str) -> None:
    with capturing(Capture(request("record"))) as record:
        real = charge(server + path)
    seen = list(_Answering.seen)
    with capturing(Capture(request("mirror"), record.effects)) as mirror:
        mirrored = charge(server + path)
    assert _Answering.seen == seen
    assert (mirrored.status_code, mirrored.json()) == (real.status_code, real.json()) != (0, None)
    assert mirror.effects == record.effects
    (call,) = [effect["detail"] for effect in record.effects]
    assert (call["method"], call["url"], call["body"]) == ("POST", server + path, {"amount": "3.00"})
    assert (call["status"], call["answer"], call["idempotency_key"]) == (201, real.json(), "k")


async def test_the_same_for_async_clients_several_at_once(server: str) -> None:
    async def both(capture: Capture) -> list[Any]:
        with capturing(capture):
            async with httpx.AsyncClient(trust_env=False) as client:
                asked = [client.post(f"{server}/charges", json={"n": number}) for number in range(5)]
                return [(answer.status_code, answer.json()) for answer in await asyncio.gather(*asked)]

    record = Capture(request("record"))
    real = await both(record)
    seen = list(_Answering.seen)
    mirror = Capture(request("mirror"), record.effects)
    assert await both(mirror) == real, "each by its body, in whatever order they were answered"
    assert _Answering.seen == seen


def test_a_call_that_nobody_recorded_is_599_and_said(server: str) -> None:
    seen = list(_Answering.seen)
    with capturing(Capture(request("mirror"))) as mirror:
        assert charge(f"{server}/charges").status_code == 599
    assert _Answering.seen == seen
    (call,) = [effect["detail"] for effect in mirror.effects]
    assert (call["status"], call["answer"]) == (599, "effect not recorded")


def test_a_call_that_failed_fails_in_the_same_way() -> None:
    with capturing(Capture(request("record"))) as record, pytest.raises(httpx.ConnectError):
        charge("http://127.0.0.1:1/charges")
    with capturing(Capture(request("mirror"), record.effects)) as mirror, pytest.raises(httpx.ConnectError):
        charge("http://127.0.0.1:1/charges")
    assert mirror.effects == record.effects


def test_the_same_for_requests(server: str) -> None:
    requests: Any = importlib.import_module("requests")

    def post(url: str) -> Any:
        return requests.post(url, json={"n": 1}, timeout=10)

    with capturing(Capture(request("record"))) as record:
        real = post(f"{server}/charges")
    seen = list(_Answering.seen)
    with capturing(Capture(request("mirror"), record.effects)) as mirror:
        mirrored = post(f"{server}/charges")
    with capturing(Capture(request("mirror"))):
        assert post(f"{server}/charges").status_code == 599
    assert _Answering.seen == seen
    assert (mirrored.status_code, mirrored.json()) == (real.status_code, real.json())
    assert mirror.effects == record.effects
    with capturing(Capture(request("record"))) as failed, pytest.raises(requests.ConnectionError):
        post("http://127.0.0.1:1/charges")
    with capturing(Capture(request("mirror"), failed.effects)) as again, pytest.raises(requests.ConnectionError):
        post("http://127.0.0.1:1/charges")
    assert again.effects == failed.effects


def test_what_cannot_be_answered_is_refused_and_not_made(server: str) -> None:
    seen = list(_Answering.seen)
    with capturing(Capture(request("mirror"))) as mirror:
        with pytest.raises(NotCaptured, match=r"http\.client"):
            urllib.request.urlopen(f"{server}/charges", b"x")
        connection = http.client.HTTPConnection(server.removeprefix("http://"))
        with pytest.raises(NotCaptured, match=r"http\.client"):
            connection.request("POST", "/charges", b"x")
        connection.close()
    assert _Answering.seen == seen
    assert len(mirror.effects) == 2


class _Mailbox(socketserver.StreamRequestHandler):
    got: list[str] = []

    def handle(self) -> None:
        self.wfile.write(b"220 hello\r\n")
        while line := self.rfile.readline():
            if line[:4].upper() == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.got.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if line[:4].upper() == b"QUIT" else b"250 ok\r\n")
            if line[:4].upper() == b"QUIT":
                return


def test_mail_is_noted_and_in_a_mirrored_request_not_sent() -> None:
    shadow_smtp.install()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "receipt"
    message.set_content("thank you")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mailbox) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()

        def send(role: str) -> list[dict[str, Any]]:
            with capturing(Capture(request(role))) as capture, smtplib.SMTP(*serving.server_address) as smtp:
                smtp.send_message(message)
            return capture.effects

        recorded = send("record")
        assert len(_Mailbox.got) == 1
        assert send("mirror") == recorded
        assert len(_Mailbox.got) == 1
        serving.shutdown()
        thread.join()
    (mail,) = [effect["detail"] for effect in recorded]
    assert (mail["to"], mail["subject"], mail["body"]) == (["b@example.org"], "receipt", "thank you")


def test_unmarked_and_ended_requests(server: str) -> None:
    before = len(_Answering.seen)
    assert charge(f"{server}/charges").status_code == 201
    with capturing(Capture(request("mirror"))) as mirror:
        pass
    token = current.set(mirror)
    try:
        with pytest.raises(NotCaptured, match="ended"):
            charge(f"{server}/charges")
    finally:
        current.reset(token)
    assert len(_Answering.seen) == before + 1


def test_the_best_fit_answers() -> None:
    call = {"method": "POST", "url": "http://a/v1/charges/ch_1/refunds", "body": {"n": 1}, "idempotency_key": "k"}

    def fit(**other: Any) -> int:
        return shadow_calls.fit(call, {**call, **other})

    assert fit() > fit(body={"n": 2}) > fit(idempotency_key="other", body={"n": 1}) > 0
    assert fit(url="http://b/v1/charges/ch_9/refunds") > 0, "another id, another host"
    assert fit(url="http://a/v1/charges/ch_1/captures") == fit(method="GET") == fit(url="http://a/v1/charges") == 0
    assert shadow_calls.fit(call, None) == 0


@pytest.mark.parametrize(("vendor", "reasons"), [("postgresql", ["driver_psycopg2"]), ("sqlite", [])])
def test_a_postgresql_driver_written_in_c_proves_nothing(vendor: str, reasons: list[str]) -> None:
    """psycopg 2 is not installed here; what matters is that its connections take no attributes either."""
    mirror = Capture(request("mirror"))
    sandbox: Any = SimpleNamespace(capture=mirror, connection=SimpleNamespace(vendor=vendor))
    with contextlib.closing(sqlite3.connect(":memory:")) as driver:
        shadow_driver.gate(driver, sandbox)
        shadow_driver.watch(driver, sandbox, on=True)
    assert mirror.unproven_reasons == reasons
