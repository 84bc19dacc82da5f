"""Every case of the corpus against every engine, with a recorder behind that keeps every byte that arrives."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.corpus.answer_cases import ANSWERS, TRUNCATED, AnswerCase, Then
from tests.corpus.engines import ENGINES, OPTIONS
from tests.corpus.recorder import Recorder
from tests.corpus.request_cases import REQUESTS, Outcome, RequestCase
from tests.integration.engine_rig import Answer, Client, values, wait_until
from tests.servers import ROOT

BUDGET_S = 2.5


@dataclass
class Guarded:
    """An engine and the recorder behind it."""

    port: int
    recorder: Recorder


@pytest.fixture(scope="module", params=list(ENGINES))
def engines(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    recorder = Recorder()
    with ENGINES[request.param](recorder.port, OPTIONS) as port:
        yield Guarded(port, recorder)
    recorder.close()


def test_the_corpus_is_large_and_its_names_are_its_own() -> None:
    names = [case.name for case in REQUESTS]
    assert len(names) == len(set(names)) >= 150
    answers = [case.name for case in ANSWERS]
    assert len(answers) == len(set(answers)) >= 80


def test_the_page_that_compares_proxies_counts_every_case() -> None:
    page = (ROOT / "docs" / "explanation" / "hostile-input.md").read_text()
    assert f"| all | {len(REQUESTS)} | " in page, "make corpus-compare"
    assert f"| all | {len(ANSWERS)} | " in page, "make corpus-compare"


def send(client: Client, parts: tuple[bytes | float, ...]) -> None:
    """Send it all; an engine need not read it all."""
    for part in parts:
        if isinstance(part, bytes):
            with suppress(ConnectionError, TimeoutError):
                client.send(part)
        else:
            time.sleep(part)


def answered(client: Client, *, head_only: bool = False) -> Answer | None:
    with suppress(ConnectionError):
        return client.answer(head_only=head_only)
    return None


def check_problem(answer: Answer, port: int) -> None:
    """An answer of the proxy's own: it says what it is, and nothing of what is behind."""
    assert answer.values("content-type") == [b"application/problem+json"]
    assert answer.values("proxy-status")[0].startswith(b"strangler-proxy; error=")
    said = json.loads(answer.body)
    assert said["status"] == answer.status
    assert [said["request_id"].encode()] == answer.values("x-request-id")
    for inner in (b"127.0.0.1", str(port).encode(), b"Traceback", b"llhttp", b"httptools"):
        assert inner not in answer.body
        assert inner not in answer.head.replace(said["request_id"].encode(), b"")


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_hostile_request(engines: Guarded, case: RequestCase) -> None:
    recorder = engines.recorder
    recorder.reset()
    with Client(engines.port, BUDGET_S) as client:
        send(client, case.parts)
        if case.outcome is Outcome.CUT:
            with suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)
            assert answered(client) is None
            assert recorder.arrived == b""
            return
        answer = answered(client)
        if case.outcome is Outcome.PASSED:
            assert answer is not None
            if answer.status == 200 or 200 not in case.status:
                assert answer.status == 200
                (seen,) = recorder.requests
                assert seen.startswith(case.sent + b"\r\n")
                assert bytes(recorder.arrived) == seen
            else:
                assert answer.status in case.status
                assert recorder.arrived == b""
            return
        if answer is not None:
            assert answer.status in case.status
            check_problem(answer, recorder.port)
        assert client.is_closed()
        if case.outcome is Outcome.REFUSED:
            assert answer is not None
            assert answer.values("connection") == [b"close"]
            assert recorder.arrived == b""
        assert recorder.requests == []
    assert recorder.unreadable == []


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case.name)
def test_an_evil_answer(engines: Guarded, case: AnswerCase) -> None:
    recorder = engines.recorder
    recorder.reset(case.parts, case.then)
    head_only = case.method == "HEAD"
    with Client(engines.port, BUDGET_S) as client:
        began = time.monotonic()
        client.send(f"{case.method} /evil HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\n\r\n".encode())
        answer = answered(client, head_only=head_only)
        assert time.monotonic() - began < BUDGET_S
        if case.status == TRUNCATED:
            assert answer is None
        else:
            assert answer is not None
            assert answer.status == case.status
            assert values(answer.head, "x-request-id") == [b"mine-1"]
            assert case.never not in answer.head + answer.raw_body
            if case.status >= 500:
                check_problem(answer, recorder.port)
    arrived = bytes(recorder.arrived)
    assert arrived.count(b" /evil HTTP/1.1\r\n") <= 2, "at most one retry"
    recorder.reset()
    if case.then is Then.STAY:
        time.sleep(0.2 if any(isinstance(part, float) for part in case.parts) else 0.0)
    for _ in range(2):
        with Client(engines.port, BUDGET_S) as client:
            after = client.get("/after")
            assert (after.status, after.body) == (200, b"ok")
            assert b"evil" not in after.head.lower()
    assert wait_until(lambda: len(recorder.requests) == 2)
