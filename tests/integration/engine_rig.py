"""What the tests of the engine stand on: a recording upstream, the engine in a thread of its own, a raw client."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from strangler_proxy.core.flag import Flag, Hold
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState

T = TypeVar("T")
SECRET = b"a secret of the tests"
HOLD = Hold(cutover_id="c1", deadline_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))


@dataclass
class Seen:
    """One request as an upstream saw it, byte for byte."""

    head: bytes
    body: bytes
    raw_body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: str) -> list[bytes]:
        return values(self.head, name)


def values(head: bytes, name: str) -> list[bytes]:
    """All values of a field, in order."""
    wanted = name.lower().encode() + b":"
    return [line[len(wanted) :].strip() for line in head.split(b"\r\n")[1:] if line[: len(wanted)].lower() == wanted]


def ok(body: bytes = b"ok", fields: bytes = b"") -> bytes:
    """A plain 200."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)


def fenced(epoch: int, owner: str, replay: str = "safe", flag: str = "f") -> bytes:
    """What an origin answers whose database refused the write."""
    value = f"flag={flag}; epoch={epoch}; owner={owner}; replay={replay}".encode()
    return b"HTTP/1.1 409 Conflict\r\nX-Strangler-Fence: %b\r\nContent-Length: 6\r\n\r\nfenced" % value


Script = Callable[[Seen, socket.socket], bytes | None]


def asleep(seconds: float, *before: bytes) -> Script:
    """Send some bytes, wait, and answer then."""

    def script(_: Seen, connection: socket.socket) -> bytes:
        for part in before:
            connection.sendall(part)
        time.sleep(seconds)
        return ok()

    return script


class Upstream:
    """A server that records every request and answers by `scripts` (by path), bytes or a callable; else an echo.

    A callable that returns None has done everything itself, and the connection ends.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Seen] = []
        self.scripts: dict[bytes, bytes | Script] = {}
        self.default: bytes | Script | None = None
        self.connections = 0
        self.left = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Close everything; later connections are refused."""
        self._stopped = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def targets(self) -> list[bytes]:
        return [seen.target for seen in self.seen]

    def _accept(self) -> None:
        while not self._stopped:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        reader = connection.makefile("rb")
        try:
            while True:
                request = self._read(reader, number)
                if request is None:
                    self.left.set()
                    return
                self.seen.append(request)
                script = self.scripts.get(request.target.partition(b"?")[0], self.default)
                if script is None:
                    answer: bytes | None = ok(self.name.encode() + b"|" + request.target + b"|" + request.body)
                elif callable(script):
                    answer = script(request, connection)
                else:
                    answer = script
                if answer is None:
                    return
                connection.sendall(answer)
        except OSError:
            self.left.set()
        finally:
            self._open.discard(connection)
            reader.close()
            connection.close()

    def _read(self, reader: Any, number: int) -> Seen | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return None
            head += line
        length = values(head, "content-length")
        if values(head, "transfer-encoding"):
            body, raw = b"", b""
            while True:
                size = reader.readline()
                if not size:
                    return None
                raw += size
                number_of_bytes = int(size, 16)
                if number_of_bytes == 0:
                    while (line := reader.readline()) not in (b"\r\n", b""):
                        raw += line
                    return Seen(head, body, raw + b"\r\n", number)
                part = reader.read(number_of_bytes + 2)
                raw += part
                body += part[:-2]
        body = reader.read(int(length[0])) if length else b""
        if length and len(body) < int(length[0]):
            return None
        return Seen(head, body, body, number)


@dataclass
class Answer:
    """An answer as the client got it."""

    head: bytes
    body: bytes
    raw_body: bytes
    interim: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    def values(self, name: str) -> list[bytes]:
        return values(self.head, name)


class Client:
    """A raw connection to the engine."""

    def __init__(self, port: int, timeout_s: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def get(self, target: str, fields: str = "", method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request and read its answer."""
        self.send(request(target, fields, method, body))
        return self.answer(head_only=method == "HEAD")

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one answer to its end."""
        interim: list[bytes] = []
        while True:
            head = self._head()
            if not 100 <= int(head[9:12]) < 200:
                break
            interim.append(head)
        if head_only or int(head[9:12]) in (204, 304):
            return Answer(head, b"", b"", interim)
        if values(head, "transfer-encoding"):
            body, raw = self._chunks()
            return Answer(head, body, raw, interim)
        length = values(head, "content-length")
        body = self._reader.read(int(length[0])) if length else self._reader.read()
        if length and len(body) < int(length[0]):
            raise ConnectionError(f"the body ended after {len(body)} of {int(length[0])} bytes")
        return Answer(head, body, body, interim)

    def is_closed(self) -> bool:
        """Has the engine closed this connection (now, or within the time-out)?"""
        try:
            return self._reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._reader.readline()
            if not line:
                raise ConnectionError(f"the connection ended within the head: {head!r}")
            head += line
        return head

    def _chunks(self) -> tuple[bytes, bytes]:
        body, raw = b"", b""
        while True:
            size = self._reader.readline()
            if not size.endswith(b"\r\n"):
                raise ConnectionError("the connection ended within a chunked body")
            raw += size
            if int(size, 16) == 0:
                while (line := self._reader.readline()) != b"\r\n":
                    if not line:
                        raise ConnectionError("the connection ended within the trailers")
                    raw += line
                return body, raw + b"\r\n"
            part = self._reader.read(int(size, 16) + 2)
            raw += part
            body += part[:-2]


def request(target: str, fields: str = "", method: str = "GET", body: bytes = b"") -> bytes:
    """A request as bytes; `fields` are lines that end in CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT", "PATCH") else ""
    return f"{method} {target} HTTP/1.1\r\nHost: example.com\r\n{length}{fields}\r\n".encode("latin-1") + body


class Rig:
    """Two upstreams and an engine; `/f/**` belongs to flag `f`, `/plain/**` to flag `g` without data."""

    def __init__(self, options: Options | None = None, *, tls: ssl.SSLContext | None = None, **flag: Any) -> None:
        self.tls = tls
        self.monolith = Upstream("monolith")
        self.extracted = Upstream("extracted")
        self.options = options or Options(sweep_s=0.02)
        self.signer = Signer(SECRET)
        self.metrics = ForwardMetrics()
        self.learned: list[tuple[str, object]] = []
        self.routes: tuple[Route, ...] | None = None
        self._ready = threading.Event()
        self._own_writes = OwnWrites(None)
        self.revision = 0
        self.state = ProxyState(
            self.table(**flag), options=self.options, signer=self.signer, own_writes=self._own_writes
        )
        self.state.on_learned = lambda key, told: self.learned.append((key, told))
        self.engine = self.make_engine()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)
        self.port = self.engine.port

    def make_engine(self) -> Engine:
        """The engine of this rig; not listening yet."""
        return Engine(self.state, self.options, self.metrics)

    def table(self, *, stage: Stage = Stage.MONOLITH, owns_data: bool = True, **flag: Any) -> RoutingTable:
        """A table with the flag so."""
        self.revision += 1
        both = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}
        routes = self.routes or (
            Route(name="f", flag="f", path="/f/**", clusters=both),
            Route(name="plain", flag="g", path="/plain/**", clusters=both),
        )
        owner = flag.pop("owner", Origin.EXTRACTED if stage.position >= 3 else Origin.MONOLITH)
        return RoutingTable.compile(
            revision=self.revision,
            flags=(
                Flag(key="f", stage=stage, owns_data=owns_data, owner=owner, **flag),
                Flag(key="g", stage=stage, weight=flag.get("weight", 0)),
            ),
            routes=routes,
            clusters=(
                Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=self.monolith.port),)),
                Cluster(name="extracted", endpoints=(Endpoint(host="127.0.0.1", port=self.extracted.port),)),
            ),
            default_cluster="monolith",
        )

    def swap(self, **flag: Any) -> None:
        """Serve a table with the flag so from now on."""
        self.call(lambda: self.state.swap(self.table(**flag)))

    def call(self, function: Callable[[], T]) -> T:
        """Run on the engine's loop; its result."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def drain(self, seconds: float) -> None:
        """Drain the engine and wait for it."""
        asyncio.run_coroutine_threadsafe(self.engine.drain(seconds), self._loop).result(seconds + 5)

    def client(self, timeout_s: float = 5.0) -> Client:
        """A new raw connection to the engine."""
        return Client(self.port, timeout_s)

    def get(self, target: str, fields: str = "", method: str = "GET", body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.get(target, fields, method, body)

    def stop(self) -> None:
        """Stop everything."""
        self.drain(0)
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(5)
        self.monolith.stop()
        self.extracted.stop()
        self._own_writes.close()

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            await self.engine.listen("127.0.0.1", 0, reuse_port=False, tls=self.tls)
            self._ready.set()
            await self._stopping.wait()

        uvloop.run(main())


@contextmanager
def rig(options: Options | None = None, *, tls: ssl.SSLContext | None = None, **flag: Any) -> Iterator[Rig]:
    """A rig for the length of a block."""
    made = Rig(options, tls=tls, **flag)
    try:
        yield made
    finally:
        made.stop()


def wait_until(condition: Callable[[], bool], timeout_s: float = 3.0) -> bool:
    """Wait until something is true; False if it never was."""
    until = time.monotonic() + timeout_s
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return met
