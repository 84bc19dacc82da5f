"""The body of a request that asks for an upgrade: llhttp leaves it to whom it takes for the other protocol's parser.

Java's HTTP client sends `Upgrade: h2c` with every first request, bodies included. Read as HTTP again, such a body
would be taken for the next request (smuggled); so it is read here, by the framing that the head announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from strangler_proxy.core.headers import Fields

if TYPE_CHECKING:
    from strangler_proxy.forward.downstream import Downstream

_FRAMING = (b"content-length", b"transfer-encoding")


def is_framed(fields: Fields) -> bool:
    """Does a head with these fields announce a body?"""
    return any(name.lower() in _FRAMING and value.strip() != b"0" for name, value in fields)


class BodyOfUpgrade:
    """Takes the parser's place until the body has ended. What follows it is not read: the connection ends then."""

    __slots__ = ("_downstream", "_ended", "_in_body", "_parser")

    def __init__(self, downstream: Downstream, fields: Fields) -> None:
        self._downstream = downstream
        self._ended = self._in_body = False
        self._parser = httptools.HttpRequestParser(self)
        lines = b"".join(b"%b: %b\r\n" % field for field in fields if field[0].lower() in _FRAMING)
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\n%bConnection: close\r\n\r\n" % lines)
        self._in_body = True

    def feed_data(self, data: bytes) -> None:
        """Read a part of the body. Raises HttpParserError where it is malformed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._ended:
                raise

    def should_upgrade(self) -> bool:
        """Not again."""
        return False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A trailer."""
        if self._in_body and not self._ended:
            self._downstream.on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self._ended:
            self._downstream.on_body(body)

    def on_message_complete(self) -> None:
        """The body has ended."""
        if not self._ended:
            self._ended = True
            self._downstream.on_message_complete()
