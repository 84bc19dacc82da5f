"""The same corpus against our ASGI mode, under every server that is installed, with a recorder behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.corpus.answer_cases import ANSWERS, TRUNCATED, AnswerCase
from tests.corpus.asgi_outcomes import ANSWERED_500, DIFFERENT
from tests.corpus.observing import Fate, Observed, observe_answer, observe_request
from tests.corpus.recorder import Recorder
from tests.corpus.request_cases import REQUESTS, Outcome, RequestCase
from tests.corpus.started import ASGI_SERVERS, asgi_engine, is_there

BUDGET_S = 1.6
pytestmark = [pytest.mark.timeout(400), pytest.mark.long]

EXPECTED = {
    Outcome.REFUSED: {Fate.REFUSED, Fate.CLOSED},
    Outcome.BROKEN: {Fate.REFUSED, Fate.CLOSED},
    Outcome.CUT: {Fate.CLOSED, Fate.REFUSED},
    Outcome.PASSED: {Fate.CLEAN},
}
SERVERS = [
    pytest.param(server, marks=() if is_there(server) else pytest.mark.skip(f"{server} comes with make bench"))
    for server in ASGI_SERVERS
]
Seen = dict[str, Observed]
Running = dict[tuple[str, str], Future[Seen]]


def observe(server: str, kind: str) -> Seen:
    """Run all requests, or all answers, against one server, one after the other."""
    recorder = Recorder()
    try:
        with asgi_engine(server, recorder.port) as port:
            if kind == "requests":
                return {case.name: observe_request(port, recorder, case, BUDGET_S) for case in REQUESTS}
            return {case.name: observe_answer(port, recorder, case, BUDGET_S) for case in ANSWERS}
    finally:
        recorder.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """All servers at the same time, twice each: most of what the corpus does is to wait."""
    wanted = [(server, kind) for server in ASGI_SERVERS if is_there(server) for kind in ("requests", "answers")]
    with ThreadPoolExecutor(len(wanted)) as pool:
        yield {each: pool.submit(observe, *each) for each in wanted}


@pytest.mark.parametrize("server", SERVERS)
def test_every_hostile_request_ends_as_it_must(running: Running, server: str) -> None:
    seen = running[server, "requests"].result()
    wrong = {}
    for case in REQUESTS:
        allowed = expected(case, server)
        observed = seen[case.name]
        kept = observed.fate is Fate.REFUSED and not observed.ended
        if observed.fate not in allowed or kept:
            wrong[case.name] = (observed, observed.arrived[:300])
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


@pytest.mark.parametrize("server", SERVERS)
def test_every_evil_answer_ends_as_it_must(running: Running, server: str) -> None:
    seen = running[server, "answers"].result()
    wrong = {}
    for case in ANSWERS:
        observed = seen[case.name]
        told = observed.fate in expected_answer(case, server) and case.never not in observed.arrived
        if not told or (case.status and observed.status != case.status):
            wrong[case.name] = (observed, observed.arrived[:300])
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


def test_what_differs_names_cases_and_servers_that_exist() -> None:
    names = {case.name for case in REQUESTS}
    assert set(DIFFERENT) <= names
    assert {server for each in DIFFERENT.values() for server in each} <= set(ASGI_SERVERS)
    assert all(fate is not Fate.DANGEROUS for each in DIFFERENT.values() for fate in each.values())


def expected(case: RequestCase, server: str) -> set[Fate]:
    """What may become of a request under a server."""
    different = DIFFERENT.get(case.name, {}).get(server)
    if different is not None:
        return {different}
    allowed = EXPECTED[case.outcome]
    return allowed | {Fate.REFUSED} if case.outcome is Outcome.PASSED and 200 in case.status else allowed


def expected_answer(case: AnswerCase, server: str) -> set[Fate]:
    """What may become of an answer."""
    if case.status == TRUNCATED:
        return {Fate.REFUSED if case.name in ANSWERED_500.get(server, ()) else Fate.CLOSED}
    return {Fate.REFUSED} if case.status in (502, 503, 504) else {Fate.CLEAN}


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("server", SERVERS)
def test_a_websocket_is_never_opened(server: str) -> None:
    """Refused by the server before it is accepted, or sent on as the plain request that it is without `Upgrade`."""
    recorder = Recorder()
    try:
        with asgi_engine(server, recorder.port) as port:
            seen = observe_request(port, recorder, RequestCase("a WebSocket", (HANDSHAKE,), Outcome.PASSED), BUDGET_S)
        assert seen.fate in (Fate.REFUSED, Fate.CLEAN), seen
        assert seen.status != 101
        assert b"\nupgrade:" not in seen.arrived.lower()
    finally:
        recorder.close()
