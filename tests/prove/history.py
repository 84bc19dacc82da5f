"""What clients tried and what they were told, one JSON object a line. The checker reads nothing else of theirs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class History:
    """Appends lines; for several threads. `phase`: `invoke`, `ok`, `fail` (nothing happened), `info` (unknown)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def say(self, client: str, operation: str, phase: str, **facts: Any) -> None:
        """One line."""
        line = json.dumps(
            {"at": round(time.monotonic(), 4), "client": client, "op": operation, "phase": phase, **facts}
        )
        with self._lock:
            self._file.write(line + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All lines, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
