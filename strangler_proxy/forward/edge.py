"""Who the client is, and how the upstream is told: `X-Forwarded-*` and `Forwarded`, overwritten at the edge.

Behind a trusted proxy they are appended to instead, and the client is the right-most address that is not trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.core.headers import RequestFields
from strangler_proxy.forward.options import Network, is_within


@dataclass(frozen=True, slots=True)
class Edge:
    """The client's address, whether it came by TLS, and the lines that tell the upstream."""

    address: str
    secure: bool
    lines: bytes


def edge_of(peer: str, fields: RequestFields, trusted: Sequence[Network], *, secure: bool = False) -> Edge:
    """What is known of a client. `peer` is the address at the other end of the connection, `secure` where it is TLS."""
    scheme = b"https" if secure else b"http"
    if not (trusted and is_within(peer, trusted)):
        return Edge(peer, secure, _lines(peer.encode(), fields.host, scheme, _forwarded(peer, fields.host, scheme)))
    hops = [part.strip().decode("latin-1") for part in fields.forwarded_for.split(b",") if part.strip()]
    client = next((hop for hop in reversed(hops) if not is_within(hop, trusted)), hops[0] if hops else peer)
    said_proto = fields.forwarded_proto.strip().lower() or scheme
    proto = b"https" if said_proto == b"https" else b"http"
    host = fields.forwarded_host.strip() or fields.host
    said = fields.forwarded or b", ".join(_forwarded(hop, host, proto) for hop in hops)
    own = _forwarded(peer, fields.host, proto)
    chain = b", ".join((*(hop.encode("latin-1") for hop in hops), peer.encode()))
    return Edge(client, proto == b"https", _lines(chain, host, proto, said + b", " + own if said else own))


def _lines(chain: bytes, host: bytes, proto: bytes, forwarded: bytes) -> bytes:
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Proto: %b\r\nForwarded: %b\r\n" % (
        chain,
        host,
        proto,
        forwarded,
    )


def _forwarded(address: str, host: bytes, proto: bytes) -> bytes:
    node = f'"[{address}]"' if ":" in address else address
    safe = node.encode("latin-1") if all(c.isalnum() or c in '.:[]"-_' for c in node) else b"unknown"
    return b'for=%b;host="%b";proto=%b' % (safe, host.replace(b'"', b""), proto)
