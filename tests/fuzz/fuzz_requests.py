"""Differential fuzzing of the guard, for bounded time: `make fuzz` (SECONDS=60).

Whatever bytes a client sends: they are refused, or the upstream sees exactly the requests that were answered, each of
them one that a strict reader reads in one way, with the method, the target, the fields and the body that were sent.
Not part of the default suite.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.corpus.engines import ENGINES, OPTIONS
from tests.corpus.recorder import Recorder, end_of_request
from tests.corpus.request_cases import REQUESTS, Outcome
from tests.integration.engine_rig import Client, values, wait_until

SECONDS = float(os.environ.get("SECONDS", "60"))
pytestmark = pytest.mark.timeout(SECONDS * 4 + 60)
UNTIL_TOLD: Any = {
    "max_examples": 1_000_000,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.generate,),
    "report_multiple_bugs": False,
}
"""Settings of hypothesis. Nothing is made smaller: the time that this takes could end the run before it failed."""

SEEDS = [b"".join(part for part in case.parts if isinstance(part, bytes))[:2_000] for case in REQUESTS]
GOOD = [
    b"".join(part for part in case.parts if isinstance(part, bytes))
    for case in REQUESTS
    if case.outcome is Outcome.PASSED
]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b"\x7f", b"\xff", b"0", b"3", b"0\r\n\r\n",
    b"3\r\nabc\r\n", b"abc", b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"/", b"/s", b"//", b"..", b"%2e", b"%2f", b";",
    b"?", b"#", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"Host: y\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\n", b"Upgrade: h2c\r\n",
    b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"X-A: b\r\n", b"Via: 1.1 strangler-proxy\r\n",
    b"Max-Forwards: 1\r\n", b"Trailer: X-A\r\n", b" chunked", b"Content_Length: 9\r\n", b"X-Strangler-Flag: f\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One to three requests, some bytes of which were replaced, dropped, doubled or put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        token = draw(st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=3)))
        end = at + draw(st.sampled_from([0, 0, 1, 2, 4, len(token)]))
        data[at:end] = token
    return bytes(data)


@st.composite
def repeated(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """A good request four times, so that its head is remembered, then one that differs by a byte or a token."""
    good = draw(st.sampled_from(GOOD))
    bad = bytearray(good)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(bad)))
        token = draw(st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=2)))
        bad[at : at + draw(st.sampled_from([0, 1, len(token)]))] = token
    return good * 4 + bytes(bad), [len(good) * number for number in range(1, 5)]


def assembled() -> st.SearchStrategy[bytes]:
    """Requests put together from parts that mean something."""
    return st.lists(st.sampled_from(TOKENS), min_size=3, max_size=24).map(b"".join)


@pytest.fixture(scope="module", params=list(ENGINES))
def engines(request: pytest.FixtureRequest) -> Iterator[tuple[int, Recorder]]:
    recorder = Recorder()
    with ENGINES[request.param](recorder.port, OPTIONS) as port:
        yield port, recorder
    recorder.close()


def exchange(port: int, data: bytes, cuts: list[int], *, pause_s: float) -> list[int]:
    """Send it in pieces and close the sending side; the statuses of what came back."""
    statuses: list[int] = []
    with Client(port, 3.0) as client, suppress(ConnectionError, TimeoutError):
        with suppress(ConnectionError):
            previous = 0
            for cut in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
                if cut > previous:
                    client.send(data[previous:cut])
                    time.sleep(pause_s)
                previous = cut
            with suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)
        while True:
            answer = client.answer(head_only=client_asked_head(data, len(statuses)))
            statuses.append(answer.status)
    return statuses


def client_asked_head(data: bytes, number: int) -> bool:
    """Was the request of this number HEAD? Read from the bytes; else no body that matters."""
    for whole in split(data)[:number]:
        data = data.lstrip(b"\r\n")[len(whole) :]
    return data.lstrip(b"\r\n").startswith(b"HEAD ")


def split(data: bytes) -> list[bytes]:
    """The whole requests that bytes begin with, as a reader by RFC 9112 splits them."""
    found: list[bytes] = []
    while True:
        data = data.lstrip(b"\r\n")
        try:
            end = end_of_request(data)
        except ValueError:
            return found
        if not end:
            return found
        found.append(data[:end])
        data = data[end:]


def read(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target without an authority, and decoded body."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    method, target = head.partition(b"\r\n")[0].split()[:2]
    target = re.sub(rb"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]*", b"", target)
    if not re.search(rb"(?im)^transfer-encoding:", head):
        return method, target, rest
    body = b""
    while size := int(rest.partition(b"\r\n")[0].partition(b";")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return method, target, body


def check(data: bytes, statuses: list[int], recorder: Recorder) -> None:
    """Is what the upstream saw what was sent, each request once, in order, and nothing else?"""
    wait_until(lambda: len(recorder.requests) >= statuses.count(200), 0.5)
    assert recorder.unreadable == [], "what arrives can be read in one way"
    forwarded, seen = statuses.count(200), list(recorder.requests)
    assert forwarded <= len(seen) <= forwarded + 1, "one may be on its way when the connection ends"
    sent = iter(split(data))
    for request in seen:
        head = request.partition(b"\r\n\r\n")[0]
        assert head.partition(b"\r\n")[0].endswith(b" HTTP/1.1")
        assert len(values(head, "host")) == 1
        assert values(head, "x-strangler-flag") == []
        assert not any(byte < 32 and byte != 9 for byte in head.replace(b"\r\n", b""))
        assert any(read(request) == read(each) for each in sent), request
    rest = bytes(recorder.arrived).removeprefix(b"".join(seen))
    assert not rest or b"\r\n\r\n" in rest, "no half head is ever sent on"


@pytest.mark.parametrize("kind", ["mutated", "assembled", "repeated"])
def test_whatever_is_sent_is_refused_or_seen_once(engines: tuple[int, Recorder], kind: str) -> None:
    port, recorder = engines
    until = time.monotonic() + SECONDS / 3
    cuts = st.lists(st.integers(0, 5_000), max_size=3)
    inputs = {
        "mutated": st.tuples(mutated(), cuts),
        "assembled": st.tuples(assembled(), cuts),
        "repeated": repeated(),
    }
    tried, clock = 0, Clock(until)

    @settings(**UNTIL_TOLD)
    @given(sent=inputs[kind])
    def run(sent: tuple[bytes, list[int]]) -> None:
        nonlocal tried
        data, cuts = sent
        with clock:
            tried += 1
            recorder.reset()
            check(data, exchange(port, data, cuts, pause_s=0.004 if kind == "repeated" else 0.001), recorder)

    try:
        run()
    except* TimeIsUp:
        pass
    assert tried > SECONDS / 10
    print(f"{kind}: {tried} connections")


class Clock:
    """Around each example: ends the run when time is up, unless one has failed, which is then tried once more."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._failed = False

    def __enter__(self) -> None:
        if time.monotonic() > self._until and not self._failed:
            raise TimeIsUp

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._failed = self._failed or isinstance(error, Exception)


class TimeIsUp(BaseException):
    """Ends hypothesis from within; no failure, so that it does not try to make it smaller."""
