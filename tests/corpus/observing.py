"""Run one case against whatever listens on a port, and say what became of it, in words that fit every proxy."""

from __future__ import annotations

import enum
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tests.corpus.answer_cases import TRUNCATED, AnswerCase, Then
from tests.corpus.readings import doubts_of_head, doubts_of_request
from tests.corpus.recorder import Recorder
from tests.corpus.request_cases import Outcome, RequestCase
from tests.integration.engine_rig import values

_REFUSING = (500, 502, 503, 504)


class Fate(enum.Enum):
    """What became of a case."""

    REFUSED = "refused"
    """Answered by the proxy itself with 4xx or 5xx, or sent elsewhere; nothing of it went further."""
    CLOSED = "closed"
    """The connection ended without a whole answer; nothing whole went further."""
    CLEAN = "clean"
    """Forwarded once, and what arrived can be read in one way only."""
    DANGEROUS = "dangerous"
    """Forwarded so that the next reader may take it for something else."""
    WAITED = "waited"
    """Neither answered nor cut within the budget."""


@dataclass(frozen=True)
class Observed:
    """One case at one proxy. `status` 0: no answer; `doubts`: why it is dangerous; `arrived` at the other side.

    `ended`: the client's connection was closed.
    """

    fate: Fate
    status: int = 0
    doubts: tuple[str, ...] = ()
    ended: bool = False
    arrived: bytes = field(default=b"", repr=False)


@dataclass
class Received:
    """What a client got: `head` empty where none came in full; `complete`: its end can be told from a break."""

    raw: bytes = b""
    head: bytes = b""
    status: int = 0
    complete: bool = False
    ended: bool = False


def observe_request(port: int, recorder: Recorder, case: RequestCase, budget_s: float) -> Observed:
    """Send a request's bytes, and look at what came back and what arrived behind."""
    recorder.reset()
    with socket.create_connection(("127.0.0.1", port), timeout=budget_s) as client:
        for part in case.parts:
            if isinstance(part, bytes):
                with suppress(OSError):
                    client.sendall(part)
            else:
                time.sleep(part)
        if case.outcome is Outcome.CUT and not any(isinstance(part, float) for part in case.parts):
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        got = receive(client, budget_s, head_only=False)
    if got.status == 200 and case.outcome is not Outcome.PASSED:
        time.sleep(0.05)  # a second request may be on its way
    return _fate_of_request(case, got, recorder)


def _fate_of_request(case: RequestCase, got: Received, recorder: Recorder) -> Observed:
    requests, arrived = list(recorder.requests), bytes(recorder.arrived)
    doubts = list(recorder.unreadable)
    for each in requests:
        doubts += doubts_of_request(each)
    if len(requests) > 1:
        doubts.append("more than one request")
    if requests and case.outcome is Outcome.BROKEN:
        doubts.append("what was cut arrives as a whole")
    if doubts:
        fate = Fate.DANGEROUS
    elif requests:
        fate = Fate.CLEAN
    elif got.status >= 300:
        fate = Fate.REFUSED
    elif got.ended:
        fate = Fate.CLOSED
    else:
        fate = Fate.WAITED
    return Observed(fate, got.status, tuple(dict.fromkeys(doubts)), got.ended, arrived)


def observe_answer(port: int, recorder: Recorder, case: AnswerCase, budget_s: float) -> Observed:
    """Let the upstream answer so, look at what the client gets, and whether the next two clients get what is theirs."""
    recorder.reset(case.parts, case.then)
    with socket.create_connection(("127.0.0.1", port), timeout=budget_s) as client:
        client.sendall(f"{case.method} /evil HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = receive(client, budget_s, head_only=case.method == "HEAD")
    asked = bytes(recorder.arrived).count(b" /evil HTTP/1.")
    recorder.reset()
    if case.then is Then.STAY:
        time.sleep(0.2 if any(isinstance(part, float) for part in case.parts) else 0.0)
    doubts = _doubts_of_answer(case, got)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=budget_s) as client:
            client.sendall(b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n")
            after = receive(client, budget_s, head_only=False)
        if b"evil" in after.raw.lower() or (
            after.status == 200 and not after.raw.endswith((b"ok", b"ok\r\n0\r\n\r\n"))
        ):
            doubts.append("the next request gets the rest of it")
        elif after.status != 200:
            doubts.append(f"the next request fails ({after.status})")
    if asked > 2:
        doubts.append("asked more than twice")
    if doubts:
        return Observed(Fate.DANGEROUS, got.status, tuple(dict.fromkeys(doubts)), got.ended, got.raw)
    if got.status in _REFUSING:
        fate = Fate.REFUSED
    elif got.complete:
        fate = Fate.CLEAN
    else:
        fate = Fate.CLOSED if got.ended else Fate.WAITED
    return Observed(fate, got.status, (), got.ended, got.raw)


def _doubts_of_answer(case: AnswerCase, got: Received) -> list[str]:
    if got.status in _REFUSING:
        return []
    doubts = [*doubts_of_head(got.head)] if got.head else []
    if not case.ours and (b"\n" + case.never in got.raw or (b": " not in case.never and case.never in got.raw)):
        doubts.append("what the upstream has smuggled in arrives")
    if case.status == TRUNCATED and got.complete:
        doubts.append("what was cut arrives as a whole")
    if not got.head and got.raw.startswith(b"HTTP/1.1 1"):
        if got.raw.startswith(b"HTTP/1.1 101") or got.ended:
            doubts.append("an interim answer, or a switch of protocols unasked, arrives as the last")
    elif not got.head and got.raw and got.ended:
        doubts.append("bytes that are no answer arrive")
    return doubts


def receive(client: socket.socket, budget_s: float, *, head_only: bool) -> Received:
    """Read one final answer, as strictly as its framing allows, or to the end of the connection or the budget."""
    got, until = Received(), time.monotonic() + budget_s
    broken = False
    while not got.complete:
        left_s = until - time.monotonic()
        if left_s <= 0:
            return got
        client.settimeout(left_s)
        try:
            part = client.recv(65_536)
        except TimeoutError:
            return got
        except OSError:
            part, broken = b"", True
        got.raw += part
        got.ended = not part
        _take_apart(got, head_only=head_only, closed=not part and not broken)
        if got.ended:
            return got
    client.settimeout(0.1)
    try:
        part = client.recv(65_536)
        got.raw, got.ended = got.raw + part, not part
    except TimeoutError:
        pass
    except OSError:
        got.ended = True
    return got


def _take_apart(got: Received, *, head_only: bool, closed: bool) -> None:
    rest = got.raw
    while True:
        head, found, body = rest.partition(b"\r\n\r\n")
        if not found or not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            return
        if head[9:10] != b"1":
            break
        rest = body
    got.head, got.status = head, int(head[9:12])
    lengths, codings = values(head, "content-length"), values(head, "transfer-encoding")
    if head_only or got.status in (204, 304):
        got.complete = True
    elif codings:
        got.complete = body.endswith(b"0\r\n\r\n")
    elif lengths and lengths[0].isdigit():
        got.complete = len(body) >= int(lengths[0])
    else:
        got.complete = closed
