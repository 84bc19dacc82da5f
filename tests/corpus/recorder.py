"""An upstream that records every byte that arrives, and answers as it is told."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.corpus.answer_cases import Then

ECHO = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorder:
    """Every whole request gets `parts`, then `then`; `requests` are the whole ones, `arrived` all bytes there were.

    `unreadable` says why a connection was given up: what came can be read in more than one way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, parts: Sequence[bytes | float] = (ECHO,), then: Then = Then.STAY) -> None:
        """Forget what arrived, and answer so from now on."""
        with self._lock:
            self.arrived = bytearray()
            self.requests: list[bytes] = []
            self.unreadable: list[str] = []
            self.parts, self.then = parts, then

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with suppress(OSError), connection:
            while data := connection.recv(65_536):
                buffer += data
                with self._lock:
                    self.arrived += data
                while (end := self._end_of_request(buffer)) > 0:
                    with self._lock:
                        self.requests.append(buffer[:end])
                        parts, then = self.parts, self.then
                    buffer = buffer[end:]
                    if not self._answer(connection, parts, then):
                        self._open.discard(connection)
                        return
                if end < 0:
                    break
        self._open.discard(connection)

    def _end_of_request(self, buffer: bytes) -> int:
        try:
            return end_of_request(buffer)
        except ValueError as error:
            with self._lock:
                self.unreadable.append(str(error))
            return -1

    def _answer(self, connection: socket.socket, parts: Sequence[bytes | float], then: Then) -> bool:
        for part in parts:
            if isinstance(part, bytes):
                connection.sendall(part)
            else:
                time.sleep(part)
        if then is Then.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return then is Then.STAY


def end_of_request(buffer: bytes) -> int:
    """Where the first whole request in a buffer ends; 0 where there is none. As strict as a test can be.

    It takes framing at its word and raises ValueError for what it cannot read in one way.
    """
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return 0
    fields = [line.partition(b":") for line in buffer[:head_end].split(b"\r\n")[1:]]
    lengths = [value.strip() for name, _, value in fields if name.lower() == b"content-length"]
    codings = [value.strip() for name, _, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise ValueError("two framings")
    if any(coding.lower() != b"chunked" for coding in codings):
        raise ValueError("another coding than chunked")
    if not all(length.isdigit() for length in lengths):
        raise ValueError("a length that is no number")
    if codings:
        return _end_of_chunks(buffer, head_end + 4)
    end = head_end + 4 + (int(lengths[0]) if lengths else 0)
    return end if len(buffer) >= end else 0


def _end_of_chunks(buffer: bytes, at: int) -> int:
    while (line_end := buffer.find(b"\r\n", at)) >= 0:
        digits = buffer[at:line_end].partition(b";")[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", digits):
            raise ValueError("a chunk size that is none")
        size = int(digits, 16)
        at = line_end + 2
        if size == 0:
            while (line_end := buffer.find(b"\r\n", at)) > at:
                at = line_end + 2
            return line_end + 2 if line_end == at else 0
        if buffer[at + size : at + size + 2] not in (b"\r\n", b"\r", b""):
            raise ValueError("a chunk without its end")
        at += size + 2
    return 0
