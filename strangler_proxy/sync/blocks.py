"""Rows from one database into another as COPY text, block by block: nothing is decoded but the last row's key.

The server sends one message per row. psycopg hands them over one await each, which costs more than the databases' own
work; here all that libpq has received is taken in one go. Memory is one block, however large the chunk.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from strangler_proxy.sync.link import Link

BLOCK_BYTES = 1 << 17

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What went through: rows, bytes, and the last row as the server sent it (empty if there was none)."""

    rows: int
    size: int
    last: bytes


@dataclass(slots=True)
class _Block:
    rows: list[memoryview]
    ended: bool = False


async def carry(source: Link, select: sql.Composable, target: Link, table: sql.Composable) -> Carried:
    """Copy what `select` gives into `table` (a name with columns), inside both transactions.

    Raises psycopg's errors. Whatever the target says, the source's connection can be used afterwards; the target's
    transaction is aborted then, up to the savepoint around this.
    """
    out = sql.SQL("COPY ({}) TO STDOUT (ENCODING 'UTF8')").format(select)
    into = sql.SQL("COPY {} FROM STDIN (ENCODING 'UTF8')").format(table)
    async with source.lock:
        await source.wait(_begun(source.pgconn, out.as_bytes(source)))
        rows = size = 0
        last = b""
        ended = False
        try:
            async with target.cursor() as cursor, cursor.copy(into) as copy:
                while not ended:
                    try:
                        block = await source.wait(_block(source.pgconn))
                    except psycopg.Error:
                        ended = True  # there is nothing left to read
                        raise
                    ended = block.ended
                    if block.rows:
                        data = b"".join(block.rows)
                        rows, size, last = rows + len(block.rows), size + len(data), bytes(block.rows[-1])
                        await copy.write(data)
        finally:
            while not ended and not source.closed:
                ended = (await source.wait(_block(source.pgconn))).ended
    return Carried(rows=rows, size=size, last=last)


def values_of(line: bytes, positions: Sequence[int]) -> tuple[str | None, ...]:
    r"""Some values of a row of COPY text; None is NULL.

    >>> values_of(b"7\ta\\tb\t\\N\n", (0, 1, 2))
    ('7', 'a\tb', None)
    """
    fields = line.removesuffix(b"\n").split(b"\t")
    return tuple(_value(fields[position]) for position in positions)


def _value(field: bytes) -> str | None:
    if field == b"\\N":
        return None
    if b"\\" not in field:
        return field.decode()
    first, *others = field.split(b"\\")
    parts = [first]
    pieces = iter(others)
    for piece in pieces:
        if not piece:  # an escaped backslash: what follows it is as it is
            parts += [b"\\", next(pieces, b"")]
        else:
            parts += [_ESCAPES.get(piece[:1], piece[:1]), piece[1:]]
    return b"".join(parts).decode()


def _begun(connection: PGconn, query: bytes) -> PQGen[None]:
    connection.send_query(query)
    results = yield from generators.execute(connection)
    if results[0].status != ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(results[0])


def _block(connection: PGconn) -> Generator[Wait, object, _Block]:
    """Rows that have come, at least one, about BLOCK_BYTES at most; with the last of them the outcome is looked at."""
    block, size = _Block([]), 0
    while size < BLOCK_BYTES:
        length, data = connection.get_copy_data(1)
        if length > 0:
            block.rows.append(data)
            size += length
        elif length == 0:
            if block.rows:
                break
            while not (yield Wait.R):
                continue
            connection.consume_input()
        else:
            results = yield from generators.fetch_many(connection)
            if results[0].status != ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(results[0])
            block.ended = True
            break
    return block
