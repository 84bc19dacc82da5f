"""What an ASGI server may hand over that no HTTP/1.1 connection could carry (HTTP/2 has no lines)."""

from __future__ import annotations

import pytest

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.forward.asgi_client import AsgiPeer, Ends, pairs_of

SCOPE = {"client": ["10.0.0.9", 4], "server": ["127.0.0.1", 80], "scheme": "http"}


@pytest.fixture
def peer() -> AsgiPeer:
    return AsgiPeer(Ends(SCOPE), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"a\r\nX-Injected: b", b"a\nb", b"a\rb", b"a\x00b", b"a\x7f"])
def test_a_value_that_would_split_the_request_is_refused(peer: AsgiPeer, value: bytes) -> None:
    with pytest.raises(MalformedFields):
        peer.read([(b"host", b"x"), (b"x", value)])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:b", b"a\r\nb", b":authority"])
def test_a_name_that_is_no_token_is_refused(peer: AsgiPeer, name: bytes) -> None:
    with pytest.raises(MalformedFields):
        peer.read([(b"host", b"x"), (name, b"y")])


def test_the_address_is_the_servers(peer: AsgiPeer) -> None:
    assert (peer.address, peer.secure) == ("10.0.0.9", False)


def test_upgrades_and_expectations_are_left_to_the_server(peer: AsgiPeer) -> None:
    read = peer.read(
        [(b"host", b"x"), (b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"expect", b"100-continue")]
    )
    assert (read.upgrade, read.expect) == (b"", b"")


def test_lines_become_pairs_in_order() -> None:
    assert pairs_of(b"Set-Cookie: a=1\r\nSet-Cookie: b=2:3\r\n") == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2:3")]
