"""`make demo`: a shop under steady traffic loses auth and then payments to two services, goes back once, and again.

`DEMO=once` stops at the end, with exit status 0 only if nothing failed. `DEMO_PICTURE=FILE.svg` keeps what was printed.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests.acceptance.account import draw_up
from tests.acceptance.stack import Stack, VerbFailed, held_ms
from tests.acceptance.traffic import Sheet, Traffic, percentile, summary
from tests.servers import ROOT

VAR = Path(os.environ.get("DEMO_VAR", str(ROOT / "var" / "demo")))
SHOPPERS = 4
LOOK_S = 2.0
"""How long traffic runs between two steps, so that a person sees each one."""

FLAGS = ("auth", "payments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of the walk and why it is given."""

    words: tuple[str, ...]
    why: str
    cutover: bool = False


def walk(flag: str) -> list[Step]:
    """Every stage up to `extracted`, back once, and forward again."""

    def flip(stage: str, *options: str, why: str, cutover: bool = False) -> Step:
        return Step(words=("flip", flag, stage, *options, "--reason", why), why=why, cutover=cutover)

    return [
        Step(words=("sync", "start", flag, "--wait"), why="copy the rows, then keep them in step"),
        flip("shadow", why="nothing changes for clients yet"),
        flip("canary", "--weight", "25%", why="a quarter of the reads"),
        flip("canary", "--weight", "100%", why="all reads; the monolith still owns the data"),
        flip("extracted", why="cutover: the service becomes the writer", cutover=True),
        flip("canary", "--weight", "50%", why="cutover back: the monolith writes again", cutover=True),
        flip("extracted", why="forward again", cutover=True),
    ]


class Demo:
    """The walk over one stack, with traffic all the time and everything printed."""

    def __init__(self, stack: Stack, console: Console, picture: Console | None) -> None:
        self._stack = stack
        self._console = console
        self._picture = picture
        self._holds: list[tuple[str, str, float]] = []
        self._seen: dict[tuple[str, str], float] = {}
        self._last_table = Table()

    async def run(self) -> bool:
        """True when nothing failed."""
        self._title(
            "Starting both stacks (PostgreSQL, Valkey, monolith, two services, card processor, proxy, control, worker)"
        )
        started = time.monotonic()
        await asyncio.to_thread(self._stack.up)
        self._console.print(f"up after {time.monotonic() - started:.0f} s; clients go to {self._stack.proxy_url}")
        traffic = Traffic(self._stack.proxy_url, shoppers=SHOPPERS)
        await traffic.start()
        try:
            await asyncio.sleep(LOOK_S)
            await self._show(traffic.sheet)
            for flag in FLAGS:
                for step in walk(flag):
                    await self._take(step, flag, traffic.sheet)
        finally:
            sheet = await traffic.stop()
        return await asyncio.to_thread(self._account, sheet)

    async def _take(self, step: Step, flag: str, sheet: Sheet) -> None:
        self._title(f"$ strangler {' '.join(_quoted(word) for word in step.words)}")
        if step.words[0] == "flip":
            done = await asyncio.to_thread(self._stack.flip, *step.words[1:])
            taken = done["acknowledged"]
            self._console.print(
                f"revision {done['revision']}, taken by {len(taken['by'])} of {len(taken['by'])} proxies"
            )
            if step.cutover:
                self._holds.append((flag, step.words[2], held_ms(done)))
                self._console.print(f"[bold]the writer moved; writes were held for {held_ms(done):.0f} ms[/bold]")
        else:
            await asyncio.to_thread(lambda: self._stack.run(*step.words, timeout_s=120.0))
            self._console.print("copied, verified, and live: every change arrives within a fraction of a second")
        await asyncio.sleep(LOOK_S)
        await self._show(sheet)

    async def _show(self, sheet: Sheet) -> None:
        status = await asyncio.to_thread(self._stack.json, "status")
        table = Table(title="what serves what", title_justify="left", expand=False)
        for column in ("flag", "stage", "reads", "writes", "epoch", "copy is behind", "taken by"):
            table.add_column(column)
        for row in status["flags"]:
            lag = row["stream"]["lag_seconds"] if row["stream"] else None
            table.add_row(
                row["key"],
                row["stage"],
                row["safe_served_by"],
                row["unsafe_served_by"],
                str(row["owner_epoch"]),
                "-" if lag is None else f"{lag:.2f} s",
                f"{status['acknowledged']['by']}/{status['acknowledged']['of']} proxies",
            )
        self._console.print(table)
        self._last_table = table
        origins = Table(title="since the last step, at the proxy", title_justify="left")
        for column in ("flag", "origin", "requests", "errors (5xx)", "mean ms"):
            origins.add_column(column, justify="right" if column not in ("flag", "origin") else "left")
        for line in await asyncio.to_thread(self._by_origin):
            origins.add_row(*line)
        self._console.print(origins)
        self._console.print(f"requests so far: {sheet.requests}, failed: {len(sheet.failures)}")
        if sheet.failures:
            self._console.print(f"[red]{sheet.failures[-1]}[/red]")

    def _by_origin(self) -> list[tuple[str, ...]]:
        now = metrics_by_origin(self._stack)
        lines = []
        for key in sorted(now):
            requests, errors, seconds = (
                now[key][name] - self._seen.get((*key, name), 0.0)  # type: ignore[call-overload]
                for name in ("requests", "errors", "seconds")
            )
            for name in ("requests", "errors", "seconds"):
                self._seen[(*key, name)] = now[key][name]  # type: ignore[index]
            if requests:
                lines.append(
                    (key[0] or "-", key[1], f"{requests:.0f}", f"{errors:.0f}", f"{1000 * seconds / requests:.1f}")
                )
        return lines

    def _account(self, sheet: Sheet) -> bool:
        self._title("The account")
        for flag in FLAGS:
            self._stack.wait_until_equal(flag)
        url, token = self._stack.processor()
        owner = self._stack.stage("payments")["owner"]
        account = draw_up(sheet, self._stack.dsns, owner_of_payments=owner, processor_url=url, token=token)
        for line in account.lines:
            self._console.print(line)
        for flag, stage, held in self._holds:
            self._console.print(f"cutover of {flag} to {stage}: held {held:.0f} ms")
        for name, values in sorted(sheet.latencies.items()):
            self._console.print(
                f"  {name}: p50 {percentile(values, 0.5) * 1000:.0f} ms, p99 {percentile(values, 0.99) * 1000:.0f} ms"
            )
        for problem in account.problems:
            self._console.print(f"[bold red]{problem}[/bold red]")
        for failure in sheet.failures[:20]:
            self._console.print(f"[red]{failure}[/red]")
        good = not account.problems and not sheet.failures
        if self._picture is not None:
            self._draw(account.lines, good)
        self._console.print("[bold green]nothing failed, nothing was lost[/bold green]" if good else summary(sheet))
        return good

    def _draw(self, lines: list[str], good: bool) -> None:
        """The end of the walk, for the picture in the README."""
        assert self._picture is not None
        self._picture.print("$ make demo", style="bold")
        self._picture.print(self._last_table)
        for flag, stage, held in self._holds:
            self._picture.print(f"cutover of {flag} to {stage}: writes held for {held:.0f} ms")
        for line in lines:
            self._picture.print(line)
        if good:
            self._picture.print("nothing failed, nothing was lost", style="bold green")

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}[/bold]", align="left")


def metrics_by_origin(stack: Stack) -> dict[tuple[str, str], dict[str, float]]:
    """Requests, errors and seconds by flag and origin, summed over the proxy's processes."""
    flag_of = {route["name"]: route["flag"] for route in stack.json("route", "list")["routes"]}
    found: dict[tuple[str, str], dict[str, float]] = {}
    port = stack.ports["proxy_admin"]
    for number in range(2):
        try:
            text = httpx.get(f"http://127.0.0.1:{port + number}/metrics", timeout=5.0).text
        except httpx.HTTPError:
            continue
        for name, labels, value in re.findall(r"^(strangler_\w+)\{([^}]*)\} (\S+)$", text, re.M):
            given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if "origin" not in given or "route" not in given:
                continue
            key = (flag_of.get(given["route"], "-"), given["origin"])
            row = found.setdefault(key, {"requests": 0.0, "errors": 0.0, "seconds": 0.0})
            if name == "strangler_proxy_requests_total":
                row["requests"] += float(value)
                row["errors"] += float(value) if given["code"] == "5xx" else 0.0
            elif name == "strangler_proxy_request_duration_seconds_sum":
                row["seconds"] += float(value)
    return found


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


def main() -> int:
    """Exit status 0 only if nothing failed."""
    once = os.environ.get("DEMO") == "once"
    picture = os.environ.get("DEMO_PICTURE")
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    drawn = Console(record=True, width=92, highlight=False, file=io.StringIO()) if picture else None
    stack = Stack(VAR, free_ports=bool(os.environ.get("DEMO_FREE_PORTS")))
    stack.run("down", expect=None, timeout_s=90.0)
    shutil.rmtree(VAR, ignore_errors=True)
    started = time.monotonic()
    try:
        good = asyncio.run(Demo(stack, console, drawn).run())
    except (VerbFailed, AssertionError, OSError) as error:
        console.print(f"[bold red]{error}[/bold red]")
        good = False
    except KeyboardInterrupt:
        stack.down()
        return 130
    console.print(f"the demo took {time.monotonic() - started:.0f} s")
    if picture and drawn is not None:
        svg = drawn.export_svg(title="the end of make demo")
        # No fonts from elsewhere: the picture is to be the same offline.
        Path(picture).write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S))
    if once or not good:
        stack.down()
        return 0 if good else 1
    where = os.path.relpath(VAR, ROOT)
    console.print(f"still up, with a last table by: STRANGLER_VAR={where} .venv/bin/strangler status")
    console.print(f"  the shop     {stack.proxy_url}/")
    console.print(f"  its admin    {stack.proxy_url}/admin/ (admin@example.com, shop example password)")
    console.print(f"  its API      {stack.proxy_url}/api/openapi.json")
    console.print(f"  the metrics  http://127.0.0.1:{stack.ports['proxy_admin']}/metrics")
    console.print(f"  the logs     .venv/bin/strangler logs --var {where} --follow")
    console.print("Ctrl-C ends everything")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        stack.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
