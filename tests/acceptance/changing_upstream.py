"""Started by the test of load under change: an upstream on a given port that is well, or sick in one way.

`python changing_upstream.py PORT MODE LEDGER`. MODE `steady` answers; each POST writes its body as a line to LEDGER
before it is answered. `/large` dribbles its body. `hangs` never answers, `resets` breaks off within the body, `fails`
answers 500. SIGTERM ends it as a server should end: nobody new, answers in hand are finished.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

PIECE = b"a" * 8_192
PIECES = 12
PAUSE_S = 0.02


class Upstream:
    """One process of it."""

    def __init__(self, port: int, mode: str, ledger: str) -> None:
        self._mode = mode
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._leaving = False
        self._lock = threading.Lock()
        self._idle: set[socket.socket] = set()
        self._busy = 0

    def run(self) -> None:
        """Serve until SIGTERM."""
        signal.signal(signal.SIGTERM, self._leave)
        with suppress(OSError):
            while not self._leaving:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        until = time.monotonic() + 1.0
        while self._busy and time.monotonic() < until:
            time.sleep(0.01)

    def _leave(self, *_: object) -> None:
        self._leaving = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._idle):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        with suppress(OSError, ValueError), connection, reader:
            while True:
                self._idle.add(connection)
                line = reader.readline()
                self._idle.discard(connection)
                if not line:
                    return
                with self._lock:
                    self._busy += 1
                try:
                    if not self._answer(connection, line, self._body(reader)):
                        return
                finally:
                    with self._lock:
                        self._busy -= 1

    def _body(self, reader) -> bytes:  # type: ignore[no-untyped-def]
        length = 0
        while (field := reader.readline()) not in (b"\r\n", b""):
            name, _, value = field.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return bytes(reader.read(length))

    def _answer(self, connection: socket.socket, line: bytes, body: bytes) -> bool:
        if self._mode == "hangs":
            time.sleep(3.0)
            return False
        if self._mode == "resets":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + PIECE)
            time.sleep(0.02)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        status = b"500 Internal Server Error" if self._mode == "fails" else b"200 OK"
        if body:
            os.write(self._ledger, body + b"\n")
        if b"/large" in line:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * PIECES))
            for _ in range(PIECES):
                connection.sendall(PIECE)
                time.sleep(PAUSE_S)
            return not self._leaving
        time.sleep(0.002)
        end = b"Connection: close\r\n" if self._leaving else b""
        connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n%b\r\nok" % (status, end))
        return not self._leaving


if __name__ == "__main__":
    Upstream(int(sys.argv[1]), sys.argv[2], sys.argv[3]).run()
