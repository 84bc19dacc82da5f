"""An upstream that answers at once, or is sick: `/KIND/N`, on the candidate's side (`--sick`) for every third N.

Kinds: `hangs`, `dribbles` (a byte now and then), `resets`, `gigabyte` (an answer of 1 GB); `/always-KIND/N` is sick for
every N, `/rarely-KIND/N` for every fortieth: too seldom for the mirror to leave such a candidate alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os

import uvloop

KINDS = ("hangs", "dribbles", "resets", "gigabyte")
SICK_EVERY = 3
RARELY = 40
BODY = json.dumps({"items": [{"id": n, "name": f"item {n}", "price": n * 5} for n in range(24)]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
OTHER = ANSWER.replace(b"item 7", b"Item 7")
GIGABYTE = 1 << 30
PIECE = b"x" * 65_536


async def answer(kind: str, writer: asyncio.StreamWriter) -> bool:
    """Answer sickly; whether the connection goes on."""
    if kind == "hangs":
        await asyncio.sleep(3_600)
    elif kind == "resets":
        writer.write(ANSWER[:200])
        await writer.drain()
        writer.transport.abort()
    elif kind == "dribbles":
        for byte in ANSWER:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        for _ in range(GIGABYTE // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
    return kind in ("dribbles", "gigabyte")


def sickness(path: str) -> str:
    """What ails the answer to a path, empty for nothing."""
    kind, _, number = path.strip("/").partition("/")
    if kind.startswith("always-"):
        return kind.removeprefix("always-")
    if kind.startswith("rarely-"):
        return kind.removeprefix("rarely-") if number.isdigit() and int(number) % RARELY == 0 else ""
    return kind if kind in KINDS and number.isdigit() and int(number) % SICK_EVERY == 0 else ""


async def serve(port: int, *, sick: bool) -> None:
    """Serve until it is ended. A healthy candidate's answer differs a little, so that there is something to compare."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                ails = sickness(path) if sick else ""
                if ails:
                    if not await answer(ails, writer):
                        return
                    continue
                writer.write(OTHER if sick else ANSWER)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sick", action="store_true")
    said = parser.parse_args()
    if said.sick:  # it would be on a machine of its own: its work is not to count
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    uvloop.run(serve(said.port, sick=said.sick))


if __name__ == "__main__":
    main()
