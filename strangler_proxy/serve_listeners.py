"""Listening sockets that outlive the processes that accept from them.

The parent opens one for each process, all on the same port (SO_REUSEPORT: the kernel spreads connections over them),
and hands it down. A connection that waits in one while its process is replaced is not lost: the socket stays open.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from strangler_proxy.core.errors import StranglerError

_BACKLOG: Final = 1_024
_TRIES: Final = 9
_PAUSE_S: Final = 0.25


async def open_listeners(host: str, port: int, number: int) -> list[socket.socket]:
    """So many sockets that listen on one port. Raises StranglerError where the port belongs to somebody else.

    SO_REUSEPORT would share it with a stranger of the same user without a word, so we look first; a port that is taken
    by processes that are leaving is tried for two seconds.
    """
    for attempt in range(_TRIES):
        try:
            with _bound(host, port, shared=False):
                pass
            return [one_listener(host, port) for _ in range(number)]
        except OSError as error:
            if attempt == _TRIES - 1:
                said = os.strerror(error.errno or 0)
                raise StranglerError(f"STRANGLER_LISTEN: cannot listen on {host}:{port}: {said}") from error
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def inherited(number: int) -> socket.socket:
    """The listening socket that a parent handed down under this file descriptor."""
    listener = socket.socket(fileno=number)
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener


def one_listener(host: str, port: int) -> socket.socket:
    """One more socket on a port that is ours already. Raises OSError."""
    listener = _bound(host, port, shared=True)
    listener.listen(_BACKLOG)
    return listener


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
