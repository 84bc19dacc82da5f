"""The other end of a client's connection: its address, whether it is trusted, and what it sent last."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from strangler_proxy.core.headers import Fields, RequestFields, read_request_fields
from strangler_proxy.forward.edge import Edge, edge_of
from strangler_proxy.forward.options import Network, is_within

_REMEMBERED_BYTES: Final = 4_096
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_TCP_CLOSE: Final = 7


class Peer:
    """One per connection. A kept connection often sends the same fields again: then they are read already.

    `repeated`: that happened, and nobody has taken note of it yet.
    """

    __slots__ = (
        "_edge",
        "_edge_host",
        "_networks",
        "_raw",
        "_read",
        "_transport",
        "address",
        "repeated",
        "secure",
        "trusted",
    )

    def __init__(self, transport: asyncio.BaseTransport, trusted: Sequence[Network]) -> None:
        name = transport.get_extra_info("peername")
        self.address: str = name[0] if isinstance(name, tuple) else "unknown"
        self.trusted = is_within(self.address, trusted)
        self.secure = transport.get_extra_info("sslcontext") is not None
        self._networks = trusted
        self._transport = transport
        self._edge: Edge | None = None
        self._edge_host = b""
        self._raw: Fields | None = None
        self._read: RequestFields | None = None
        self.repeated = False

    def read(self, raw: Fields) -> RequestFields:
        """A request's fields, read. Raises MalformedFields."""
        if self._read is not None:
            if raw is self._raw:
                return self._read
            if raw == self._raw:
                self.repeated = True
                return self._read
        read = read_request_fields(raw)
        if read.hosts and len(read.block) <= _REMEMBERED_BYTES:
            self._raw, self._read = raw, read
        return read

    def recall(self, raw: Fields, read: RequestFields) -> None:
        """These fields come next, and were read before."""
        self._raw, self._read = raw, read

    def sends_again(self, raw: Fields) -> bool:
        """Are these the fields of the last request, and is there no Connection among them?"""
        read = self._read
        return read is not None and read.persistent and raw == self._raw

    def edge(self, fields: RequestFields) -> Edge:
        """Who the client is; worked out once where it cannot change with the request."""
        if self._edge is None or self.trusted or fields.host != self._edge_host:
            self._edge_host = fields.host
            self._edge = edge_of(self.address, fields, self._networks, secure=self.secure)
        return self._edge

    def may_half_close(self) -> bool:
        """Can a client that only closed its sending side be told from one that left? Not by TLS, nor without Linux."""
        return _TCP_INFO is not None and not self.secure

    def is_gone(self) -> bool:
        """Did the client refuse what was sent after it had closed its side? The kernel knows."""
        assert _TCP_INFO is not None
        try:
            state = self._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)
        except OSError:
            return True
        return bool(state[0] == _TCP_CLOSE)

    def local_host(self) -> bytes:
        """Address and port that the client connected to: the Host of a request that has none (HTTP/1.0)."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
