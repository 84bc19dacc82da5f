"""All clients of a site as one process: `python -m tests.prove.clients CONFIG.json` until the file `STOP` is there.

Each one ends what it does; who did not end in time is named in the file `LATE`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.prove.history import History
from tests.prove.payers import Payer
from tests.prove.writers import DirectWriter, Writer

REST_S = 60.0


def _build(config: dict[str, Any]) -> list[Writer]:
    clients: list[Writer] = []
    for lane in config["lanes"]:
        history = History(Path(lane["history"]))
        seed = config["seed"] * 100 + lane["number"]
        begun = config["begun"]
        clients += [Writer(lane["urls"], history, number, seed, begun) for number in range(config["writers"])]
        clients.append(DirectWriter(lane["urls"], history, config["writers"], seed, begun))
        if config.get("proxies"):
            clients.append(Payer(lane, history, config["proxies"], seed, begun))
    return clients


def main(path: Path) -> None:
    """Begin all, wait for the word, end all."""
    config = json.loads(path.read_text())
    parent = os.getppid()
    clients = _build(config)
    for client in clients:
        client.start()
    while not path.with_suffix(".stop").exists():
        if os.getppid() != parent:
            os._exit(1)
        time.sleep(0.05)
    for client in clients:
        client.stop()
    until = time.monotonic() + REST_S
    late = [client.name for client in clients if not client.join(max(0.1, until - time.monotonic()))]
    said = path.with_suffix(".late.tmp")
    said.write_text(json.dumps(late))
    said.rename(path.with_suffix(".late"))
    os._exit(0)


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    main(Path(sys.argv[1]))
