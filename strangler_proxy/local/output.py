"""One log of everything: a coloured prefix for each name on the terminal, and bounded files under var/log."""

from __future__ import annotations

import collections
import queue
import threading
from pathlib import Path
from typing import BinaryIO, TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
FILE_BYTES = 5_000_000
QUEUE_LINES = 10_000
ALL = "all"


class LogFile:
    """An append-only file that is renamed to `NAME.log.1` when it has grown to `limit_bytes`; two files at most."""

    def __init__(self, path: Path, *, limit_bytes: int = FILE_BYTES) -> None:
        self.path = path
        self._limit = limit_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        if self._size and self._size + len(data) > self._limit:
            self._file.close()
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._file = self.path.open("ab", buffering=0)
            self._size = 0
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        """No more."""
        self._file.close()


class Terminal:
    """Writes lines in a thread of its own: a terminal that does not take them (a paused pager) stops nobody.

    At most QUEUE_LINES wait; what is left out then is counted and said.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Never blocks."""
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self._left_out += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, within a limit."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while (text := self._queue.get()) is not None:
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                text = f"... {left_out} lines left out: the terminal was too slow\n{text}"
            try:
                self._stream.write(text)
                if self._queue.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                return


class Output:
    """Where the lines of all units go. `last(NAME)` keeps a few for messages."""

    KEPT_LINES = 20

    def __init__(self, folder: Path, names: list[str], *, stream: TextIO | None, colour: bool, quiet: bool) -> None:
        self._folder = folder
        self._width = max(map(len, names), default=0)
        self._colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
        self._terminal = Terminal(stream) if stream is not None else None
        self._colour = colour
        self._quiet = quiet
        self._files: dict[str, LogFile] = {}
        self._last: dict[str, collections.deque[str]] = {}

    def lines(self, name: str, lines: list[bytes]) -> None:
        """Take whole lines of a unit, without their ends."""
        self._file(name).write(b"".join(line + b"\n" for line in lines))
        texts = [line.decode("utf-8", "replace") for line in lines]
        self._last.setdefault(name, collections.deque(maxlen=self.KEPT_LINES)).extend(texts)
        self._file(ALL).write("".join(f"{name:<{self._width}} | {text}\n" for text in texts).encode())
        if not self._quiet:
            self._show(name, texts)

    def say(self, text: str) -> None:
        """A line of our own; shown also when quiet."""
        texts = text.splitlines()
        self._file(ALL).write("".join(f"{'strangler':<{self._width}} | {line}\n" for line in texts).encode())
        self._show("strangler", texts)

    def last(self, name: str) -> list[str]:
        """The last lines of a unit."""
        return list(self._last.get(name, ()))

    def close(self) -> None:
        """Write what waits and close the files."""
        if self._terminal is not None:
            self._terminal.close()
        for file in self._files.values():
            file.close()

    def _show(self, name: str, texts: list[str]) -> None:
        if self._terminal is None:
            return
        prefix = f"{name:<{self._width}} |"
        if self._colour:
            prefix = f"\x1b[{self._colours.get(name, 1)}m{prefix}\x1b[0m"
        self._terminal.put("".join(f"{prefix} {text}\n" for text in texts))

    def _file(self, name: str) -> LogFile:
        if name not in self._files:
            self._files[name] = LogFile(self._folder / f"{name}.log")
        return self._files[name]
