"""Recorded safe requests asked of both sides again, and judged as mirrored pairs are. Unsafe ones are never sent."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpx

from strangler_proxy.cli.shadow_credentials import MARK, Credentials
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer, Pair, Side
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.secret import is_secret_name
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.tally import Tally
from strangler_proxy.shadow import codings
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.options import JudgeSettings

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_BYTES: Final = 1_048_576
ANSWER_S: Final = 30.0
AGAIN_S: Final = 0.5
_WRITER: Final = "replay"
_CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_LEFT_OUT: Final = frozenset(
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "via", "expect", "accept-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded",
     "if-none-match", "traceparent", "tracestate", "x-request-id",
     "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"]
)  # fmt: skip
"""Not sent again: framing, what proxies added, and conditions that hold for answers of then only."""


@dataclass(slots=True)
class Replayed:
    """What a replay amounts to. `skipped` counts recorded requests that were not asked, by reason.

    `lacking` counts marks for which there are no credentials.
    """

    asked: int = 0
    tallies: Sequence[Tally] = ()
    samples: Sequence[Sample] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)


def askable(samples: Iterable[Sample], credentials: Credentials, found: Replayed, limit: int) -> list[Sample]:
    """Recorded requests that can be asked again, each once, the newest first; what is left out is counted."""
    chosen: dict[tuple[object, ...], Sample] = {}
    for sample in samples:
        why = _why_not(sample, credentials, found)
        if why:
            found.skipped[why] += 1
            continue
        same = sample.method, sample.target, tuple(sorted(_sent(sample, credentials, Side.CONTROL)))
        if same in chosen:
            found.skipped["the same request again"] += 1
        elif len(chosen) >= limit:
            found.skipped["beyond --limit"] += 1
        else:
            chosen[same] = sample
    return list(chosen.values())


def _why_not(sample: Sample, credentials: Credentials, found: Replayed) -> str:
    if not sample.safe or sample.method not in SAFE:
        return "unsafe"
    if sample.body:
        return "it has a body"
    target = credentials.put_in(sample.target)
    if not target.startswith("/") or not target.isascii() or any(char.isspace() for char in target):
        return "its target cannot be sent"
    lacking = {mark for side in Side for _, value in _sent(sample, credentials, side) for mark in MARK.findall(value)}
    lacking |= set(MARK.findall(target))
    if lacking:
        found.lacking.update(lacking)
        return "no credentials"
    return ""


def _sent(sample: Sample, credentials: Credentials, side: Side) -> list[tuple[str, str]]:
    """Fields to send to a side, names in lower case. One with an unknown mark is left out; credentials are not."""
    return [
        (name.lower(), value)
        for name, value in credentials.fields(sample.fields, side)
        if name.lower() not in _LEFT_OUT
        and not name.lower().startswith(("x-strangler-", ":"))
        and (not MARK.search(value) or name.lower() in _CREDENTIALS or is_secret_name(name))
    ]


def check_url(option: str, url: str) -> str:
    """The base of a side's URL. Raises DeclarationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise DeclarationError([f'{option} "{url}": give it as http://HOST:PORT'])
    return url.rstrip("/")


async def replay(
    samples: Sequence[Sample],
    *,
    flag: str,
    control: str,
    candidate: str,
    credentials: Credentials,
    rules: Sequence[Rule],
    rate: float,
    at_once: int = 4,
    told: Callable[[], object],
    found: Replayed,
) -> None:
    """Ask all of them, `rate` a second at most, and judge what comes. `told` is called after each."""
    settings = JudgeSettings(evidence="memory:", secret=os.urandom(32), again_after_s=AGAIN_S, aa_share=0.0)
    judge = Judge(settings, _WRITER, undo=codings.known())
    judge.take_rules(flag, rules, dt.datetime.now(dt.UTC).date())
    limits = httpx.Limits(max_connections=2 * at_once)
    async with httpx.AsyncClient(timeout=ANSWER_S, limits=limits, trust_env=False, follow_redirects=False) as client:
        sides = _Sides(client, {Side.CONTROL: control, Side.CANDIDATE: candidate}, credentials)
        room = asyncio.Semaphore(at_once)
        by_pair = {uuid.uuid4().hex: sample for sample in samples}
        start = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for number, (name, sample) in enumerate(by_pair.items()):
                    await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
                    await room.acquire()
                    group.create_task(_one(judge, sides, name, flag, sample, room, found, told))
            await _ask_again(judge, sides, by_pair)
        finally:
            judge.settle_all()
            found.tallies = [each.snapshot() for each in judge.flags[flag].ledgers][::-1]
            found.samples = list(judge.samples)


async def _one(
    judge: Judge,
    sides: _Sides,
    name: str,
    flag: str,
    sample: Sample,
    room: asyncio.Semaphore,
    found: Replayed,
    told: Callable[[], object],
) -> None:
    try:
        control, candidate = await asyncio.gather(sides.ask(sample, Side.CONTROL), sides.ask(sample, Side.CANDIDATE))
        signs = [(key.encode(), value.encode("latin-1", "replace")) for key, value in sample.fields]
        pair = Pair(
            id=name,
            flag=flag,
            route=sample.route,
            method=sample.method,
            target=sample.target.encode("latin-1", "replace"),
            fields=tuple(signs),
            body=b"",
            safe=True,
            at=time.time(),
            control_origin=Origin(sample.control_origin),
            control=control,
            candidate=candidate,
        )
        judge.pair(pair, False, time.monotonic())
        found.asked += 1
    finally:
        room.release()
        told()


async def _ask_again(judge: Judge, sides: _Sides, by_pair: dict[str, Sample]) -> None:
    """Both sides once more where they differed, so that a race is told from a fault."""
    end = time.monotonic() + AGAIN_S + 2.0
    while judge.waiting and time.monotonic() < end:
        asks = judge.due(time.monotonic())
        for token, whom, pair in asks:
            sample = by_pair[pair.id]
            answers = await asyncio.gather(*(sides.ask(sample, side) for side in whom))
            said = dict(zip(whom, answers, strict=True))
            judge.asked(token, said.get(Side.CONTROL), said.get(Side.CANDIDATE))
            end = time.monotonic() + AGAIN_S + 2.0
        if not asks:
            await asyncio.sleep(0.05)


class _Sides:
    """Asks either side. Failures are answers too."""

    def __init__(self, client: httpx.AsyncClient, urls: dict[Side, str], credentials: Credentials) -> None:
        self._client = client
        self._urls = urls
        self._credentials = credentials

    async def ask(self, sample: Sample, side: Side) -> Answer:
        """One answer; raises nothing but CancelledError."""
        assert sample.safe, "unsafe requests are never sent again"
        assert sample.method in SAFE, "only methods that are safe by themselves are sent again"
        url = self._urls[side] + self._credentials.put_in(sample.target)
        said = [*_sent(sample, self._credentials, side), ("accept-encoding", "gzip, deflate")]
        fields = [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in said]
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._answer(sample.method, url, fields, began)
        except TimeoutError:
            failure = Failure.TIMEOUT
        except httpx.ConnectError:
            failure = Failure.REFUSED
        except httpx.TimeoutException:
            failure = Failure.TIMEOUT
        except httpx.RemoteProtocolError as error:
            failure = Failure.RESET if "disconnect" in str(error) or "closed" in str(error) else Failure.GARBAGE
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError):
            failure = Failure.RESET
        return Answer(failure=failure, duration_ms=(time.monotonic() - began) * 1_000)

    async def _answer(self, method: str, url: str, fields: list[tuple[bytes, bytes]], began: float) -> Answer:
        body, size = bytearray(), 0
        async with self._client.stream(method, url, headers=fields) as response:
            async for piece in response.aiter_raw():
                size += len(piece)
                if len(body) < BODY_BYTES:
                    body += piece[: BODY_BYTES - len(body)]
                if size > 16 * BODY_BYTES:
                    return Answer(failure=Failure.TOO_LARGE, duration_ms=(time.monotonic() - began) * 1_000)
            return Answer(
                status=response.status_code,
                fields=tuple(response.headers.raw),
                body=bytes(body),
                body_bytes=size,
                truncated=size > len(body),
                duration_ms=(time.monotonic() - began) * 1_000,
            )
