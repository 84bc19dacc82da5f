"""Started by `make soak`: an upstream for large bodies, `python -m tests.soak.site PORT`.

`/small` answers 16 bytes, `/down?N` N bytes, a POST to `/up` how many bytes came. uvloop, with backpressure, so that
hundreds of slow readers cost it little.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

BLOCK = bytes(256) * 1024


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, one after the other."""
    try:
        while line := await reader.readline():
            length = 0
            while (field := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = field.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            target = line.split()[1]
            if target.startswith(b"/down"):
                await send(writer, int(target.partition(b"?")[2]))
            else:
                taken = 0
                while taken < length:
                    taken += len(await reader.read(min(1 << 18, length - taken)))
                body = b"%16d" % taken
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    """An answer of this size, no faster than it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    while size > 0:
        writer.write(BLOCK[:size])
        size -= len(BLOCK)
        await writer.drain()


async def main(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.start_server(serve_one, "127.0.0.1", port, backlog=1024, limit=1 << 18)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
