"""br and zstd undone within a limit, whole or not at all; and the alarm that ends what takes too long."""

from __future__ import annotations

import subprocess
import sys
import zlib

import brotli
import pytest
import zstandard

from strangler_proxy.core.decoding import BrokenCoding, TooMuch, decode
from strangler_proxy.shadow.codings import known

BODY = b'{"a": [1, 2, 3], "b": "' + b"x" * 5_000 + b'"}'
CODED = {"br": brotli.compress(BODY), "zstd": zstandard.compress(BODY)}


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_body_comes_back_and_a_bomb_does_not(coding: str) -> None:
    undo = known()[coding]
    assert undo(CODED[coding], 1 << 20) == BODY
    assert undo(CODED[coding], len(BODY)) == BODY
    with pytest.raises(TooMuch):
        undo(CODED[coding], len(BODY) - 1)
    assert decode(CODED[coding], coding, more=known()).body == BODY
    assert decode(zlib.compress(CODED[coding]), f"{coding}, deflate", more=known()).body == BODY


@pytest.mark.parametrize("coding", ["br", "zstd"])
@pytest.mark.parametrize("cut", [1, 3, 20])
def test_what_is_cut_or_is_something_else_is_broken(coding: str, cut: int) -> None:
    undo = known()[coding]
    for body in (CODED[coding][:-cut], b"{}" * cut, CODED[coding][:cut]):
        with pytest.raises(BrokenCoding):
            undo(body, 1 << 20)


def test_more_frames_than_anybody_sends_are_broken() -> None:
    frame = zstandard.compress(b"a")
    assert known()["zstd"](frame * 100, 1 << 20) == b"a" * 100
    with pytest.raises(BrokenCoding):
        known()["zstd"](frame * 2_000, 1 << 20)


ALARM = """
import signal, time
from strangler_proxy.shadow.alarm import Limited, OutOfTime
limited = Limited(0.3)
def endless():
    while True:
        try:
            sum(range(1000))
        except ZeroDivisionError:
            pass
for _ in range(2):
    began = time.monotonic()
    try:
        limited(endless)
    except OutOfTime:
        assert 0.25 < time.monotonic() - began < 5, time.monotonic() - began
        print("broken off")
time.sleep(0.6)
print(limited(lambda: "done"))
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_what_takes_too_long_is_broken_off_and_the_next_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", ALARM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split("\n"), done.stderr) == (["broken off", "broken off", "done", ""], "")
