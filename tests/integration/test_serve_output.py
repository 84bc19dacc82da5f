"""The log and the health listener of a process: bounded, structured, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time

import pytest

from strangler_proxy.health import HealthListener
from strangler_proxy.logging import BoundedOutput

SCRIPT = """
import structlog, logging
from strangler_proxy.logging import configure
configure("strangler-test")
log = structlog.get_logger("x")
log.info("table.swapped", revision=7, **{"http.request.method": "GET"})
log.debug("never.seen")
secret = "canary-in-a-local-variable"
try:
    1 / 0
except ZeroDivisionError:
    log.exception("follower.failed", error="why")
logging.getLogger("library").warning("from %s", "a library")
"""


def run_script(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    return done.stdout


def test_lines_are_ecs_json_where_stdout_is_no_terminal() -> None:
    first, second, third = map(json.loads, run_script(STRANGLER_LOG="").splitlines())
    assert (first["message"], first["revision"], first["log.level"]) == ("table.swapped", 7, "info")
    assert (first["http.request.method"], first["service.name"]) == ("GET", "strangler-test")
    assert first["@timestamp"].endswith("Z")
    assert second["error.message"] == "why"
    assert "ZeroDivisionError" in second["error.stack_trace"]
    assert (third["message"], third["log.level"]) == ("from a library", "warning")


def test_console_lines_are_for_people_and_show_no_local_variables() -> None:
    text = run_script(STRANGLER_LOG="console", NO_COLOR="1")
    assert "table.swapped" in text
    assert "ZeroDivisionError" in text
    assert "canary" not in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.splitlines()[0])


def test_the_level_is_a_setting() -> None:
    assert "never.seen" in run_script(STRANGLER_LOG="json", STRANGLER_LOG_LEVEL="debug")
    assert "table.swapped" not in run_script(STRANGLER_LOG="json", STRANGLER_LOG_LEVEL="error")


def test_a_reader_that_stalls_never_stalls_who_logs_and_lost_lines_are_counted() -> None:
    reader, writer = os.pipe()
    output = BoundedOutput(writer)
    record = logging.LogRecord("x", logging.INFO, "", 0, "y" * 200, None, None)
    begun = time.monotonic()
    for _ in range(12_000):
        output.emit(record)
    assert time.monotonic() - begun < 3
    assert output.dropped > 0
    seen = b""
    while b"lines were dropped" not in seen:
        seen += os.read(reader, 1 << 16)
        output.emit(record)
    os.set_blocking(reader, False)
    until = time.monotonic() + 5
    while output._lines.unfinished_tasks and time.monotonic() < until:
        try:
            os.read(reader, 1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
    os.close(reader)


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_health_answers_three_paths_and_refuses_the_rest() -> None:
    why_not = ["starting"]
    listener = HealthListener(ready=lambda: why_not[0], metrics=lambda: "x 1\n")
    await listener.listen("127.0.0.1", 0)
    assert (await ask(listener.port, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    why_not[0] = ""
    assert (await ask(listener.port, b"GET /readyz?x HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\nready\n")
    assert (await ask(listener.port, b"HEAD /readyz HTTP/1.1\r\n\r\n")).endswith(b"Connection: close\r\n\r\n")
    assert b"\r\n\r\nx 1\n" in await ask(listener.port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert (await ask(listener.port, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
    assert (await ask(listener.port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
    assert await ask(listener.port, b"x" * 20_000) == b""
    await listener.close()


async def test_a_health_port_that_is_freed_late_is_taken_then() -> None:
    first = HealthListener(ready=str, metrics=str)
    await first.listen("127.0.0.1", 0)
    second = HealthListener(ready=str, metrics=str)
    waiting = asyncio.create_task(second.listen("127.0.0.1", first.port))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await first.close()
    await asyncio.wait_for(waiting, 3)
    await second.close()
