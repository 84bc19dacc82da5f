"""Started by `make soak`: a good client, `python -m tests.soak.good_client PORT SECONDS`; prints what it met as JSON.

A process of its own, so that what it measures is not its neighbours'. Half of its requests come on a kept connection,
half on a new one.
"""

from __future__ import annotations

import json
import sys
import time

from tests.integration.engine_rig import Client

PAUSE_S = 0.005


def main(port: int, seconds: float) -> dict[str, object]:
    """Ask for so long; durations in milliseconds."""
    took: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds
    with Client(port, 10) as kept:
        while time.monotonic() < until:
            for client in (kept, None):
                began = time.perf_counter()
                try:
                    if client is None:
                        with Client(port, 10) as new:
                            status = new.get("/small", "Connection: close\r\n").status
                    else:
                        status = client.get("/small").status
                    if status != 200:
                        failed.append(str(status))
                except OSError as error:
                    failed.append(repr(error))
                took.append(1000 * (time.perf_counter() - began))
                time.sleep(PAUSE_S)
    took.sort()
    return {
        "requests": len(took),
        "failed": failed,
        "p50_ms": round(took[len(took) // 2], 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "max_ms": round(took[-1], 2),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), float(sys.argv[2]))))
