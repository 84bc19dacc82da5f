"""Hostile answers at the judging process: recorded as what they are, never matched, and it lives on."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from pathlib import Path
from typing import Final

import brotli
import zstandard

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer
from tests.integration.judge_rig import judging, tallies, until
from tests.pairs import answer, pair

MILLION: Final = 1_000_000
JSON: Final = (b"Content-Type", b"application/json")


def coded(body: bytes, coding: bytes, kind: bytes = b"application/json") -> Answer:
    return answer(body, fields=((b"Content-Type", kind), (b"Content-Encoding", coding)))


def typed(body: bytes, kind: bytes) -> Answer:
    return answer(body, fields=((b"Content-Type", kind),))


GOOD: Final = answer({"a": 1}, fields=(JSON,))
ZEROS: Final = b"\0" * (64 * 1024 * 1024)

MISMATCHED: Final[dict[str, tuple[Answer, Answer]]] = {
    "garbage": (GOOD, answer(b"\x00\xff\xfe garbage")),
    "not what its type says": (GOOD, typed(b"<html><p>sorry</p></html>", b"application/json")),
    "another type that is true": (GOOD, typed(b"<html><p>sorry</p></html>", b"text/html")),
    "invalid UTF-8": (GOOD, answer(b'{"a": "\xc3\x28"}')),
    "other invalid UTF-8": (answer(b'{"a": "\xc3\x28"}'), answer(b'{"a": "\xc3\x29"}')),
    "NaN": (answer(b'{"a": 1}'), answer(b'{"a": NaN}')),
    "a key twice": (GOOD, answer(b'{"a": 2, "a": 1}')),
    "a number beyond all": (answer(b'{"a": 1e99}'), answer(b'{"a": 1e999999999999}')),
    "two huge integers": (answer(b"1" * 50_000), answer(b"1" * 49_999 + b"2")),
    "empty": (GOOD, answer(b"")),
    "cut JSON": (answer({"a": [1, 2, 3]}), answer(b'{"a": [1, 2')),
    "a bomb": (GOOD, coded(gzip.compress(ZEROS), b"gzip")),
    "a bomb in br": (GOOD, coded(brotli.compress(ZEROS, quality=5), b"br")),
    "a bomb in zstd": (GOOD, coded(zstandard.compress(ZEROS), b"zstd")),
    "nested codings": (GOOD, coded(gzip.compress(gzip.compress(b"x")), b"gzip, gzip, gzip, gzip, gzip")),
    "no gzip at all": (GOOD, coded(b'{"a": 1}', b"gzip")),
    "gzip that ends early": (GOOD, coded(gzip.compress(b'{"a": 1}')[:-9], b"gzip")),
    "zstd that ends early": (GOOD, coded(zstandard.compress(b'{"a": 1}')[:-2], b"zstd")),
    "a charset that is none": (GOOD, typed(b'{"a": 2}', b"application/json; charset=base64")),
    "a million items that differ": (answer([1] * MILLION), answer([2] * MILLION)),
    "text that is UTF-16": (typed(b"hello", b"text/plain"), typed("hellp".encode("utf-16"), b"text/plain; charset=x")),
    "a thousand cookies": (
        GOOD,
        answer({"a": 1}, fields=(JSON, *((b"Set-Cookie", b"c%d=\xff; Path=/; =;;" % n) for n in range(1_000)))),
    ),
    "no answer": (GOOD, answer(failure=Failure.GARBAGE)),
    "another status": (GOOD, answer({"a": 1}, status=299)),
    "a status that is none": (GOOD, answer({"a": 1}, status=999)),
}

INCONCLUSIVE: Final[dict[str, tuple[Answer, Answer]]] = {
    "a bomb of the control": (coded(zlib.compress(ZEROS), b"deflate"), GOOD),
    "too deep on both sides": (answer(b"[" * 100_000 + b"]" * 100_000), answer(b"[ " * 100_000 + b"]" * 100_000)),
    "a coding nobody knows": (coded(b"????", b"lzma"), GOOD),
    "both cut off": (answer(b'{"a"', truncated=True), answer(b'{"b"', truncated=True)),
    "a control without an answer": (answer(failure=Failure.RESET), GOOD),
}

MATCHED: Final[dict[str, tuple[Answer, Answer]]] = {
    "a million equal items": (answer([1] * MILLION), answer(b"[" + b",".join([b"1"] * MILLION) + b"]")),
    "an endless map": (
        answer({f"k{n}": [n] for n in range(150_000)}),
        answer(json.dumps({f"k{n}": [n] for n in range(150_000)}, separators=(",", ":")).encode()),
    ),
}


async def test_hostile_answers_are_recorded_as_what_they_are_and_the_judge_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"

    async with judging(path) as (link, asker):
        asker.answers = lambda one, side: asked[one.id][0 if side.value == "control" else 1]
        asked = {}
        pid, began = link.pid, time.monotonic()
        for number, (name, sides) in enumerate((MISMATCHED | INCONCLUSIVE | MATCHED).items()):
            one = pair(*sides, route=name, target=b"/%c/%c" % (97 + number // 10, 97 + number % 10))
            asked[one.id] = sides
            link.take(one)
            await until(lambda: link.facts.get("pairs", 0) == len(asked))
        odd = pair(GOOD, GOOD, target=b"/\xff/%ZZ/" + b"a" * 60_000 + b"?\x00=\xfe", method="BREW", route="odd")
        link.take(odd)
        await until(lambda: link.facts.get("matched", 0) == 1 + len(MATCHED))
        assert (link.pid, link.restarts, link.drops) == (pid, 0, {})
        assert time.monotonic() - began < 90
    outcomes: dict[str, str] = {}
    for tally in await tallies(path):
        for one in tally.strata.values():
            counts = {"matched": one.matched, "mismatched": one.mismatched, "inconclusive": one.inconclusive}
            outcomes[one.route] = " ".join(name for name, count in counts.items() if count)
    assert outcomes.pop("odd") == "matched"
    if outcomes["a million items that differ"] == "inconclusive":  # cut off by the clock on a busy machine
        outcomes["a million items that differ"] = "mismatched"
    assert outcomes == {
        **dict.fromkeys(MISMATCHED, "mismatched"),
        **dict.fromkeys(INCONCLUSIVE, "inconclusive"),
        **dict.fromkeys(MATCHED, "matched"),
    }
