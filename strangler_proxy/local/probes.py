"""One look at a process: does it answer? An empty text is good, anything else says what was seen instead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit


class Probe(Protocol):
    """A question that can be asked again and again. It never raises for what the other side does."""

    async def look(self) -> str:
        """ "" when all is well, else the reason. Ends within its own time limit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """GET `url`; an answer with 2xx or 3xx is good."""

    url: str
    timeout_s: float = 2.0

    async def look(self) -> str:
        """Ask once."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        ask = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\nUser-Agent: strangler-up\r\n\r\n"
        try:
            async with asyncio.timeout(self.timeout_s):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(ask.encode())
                    line = await reader.readline()
                finally:
                    writer.close()
        except TimeoutError:
            return f"{self.url}: no answer in {self.timeout_s:g} s"
        except (OSError, ValueError) as error:
            return f"{self.url}: {error}"
        words = line.split()
        status = words[1].decode("ascii", "replace") if len(words) > 1 else "nothing"
        return "" if status[:1] in ("2", "3") else f"{self.url}: answered {status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe:
    """Connect to HOST:PORT; being accepted is good."""

    host: str
    port: int
    timeout_s: float = 2.0

    async def look(self) -> str:
        """Connect once."""
        try:
            async with asyncio.timeout(self.timeout_s):
                _, writer = await asyncio.open_connection(self.host, self.port)
                writer.close()
        except TimeoutError:
            return f"{self.host}:{self.port}: no connection in {self.timeout_s:g} s"
        except OSError as error:
            return f"{self.host}:{self.port}: {error}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandProbe:
    """Run a command; exit status 0 is good."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    folder: Path
    timeout_s: float = 2.0

    async def look(self) -> str:
        """Run it once; it is killed when its time is over."""
        try:
            child = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.env),
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            return f"{self.command[0]}: {error}"
        try:
            async with asyncio.timeout(self.timeout_s):
                code = await child.wait()
        except TimeoutError:
            return f"{self.command[0]}: not done in {self.timeout_s:g} s"
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        return "" if code == 0 else f"{self.command[0]}: ended with {code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProbe:
    """Ask a function of ours, which blocks for a bounded time; it runs in a thread."""

    call: Callable[[], str]

    async def look(self) -> str:
        """Call it once."""
        return await asyncio.to_thread(self.call)
