"""Request targets: the canonical form that routes are matched on, and what an intermediary must refuse.

The target is forwarded byte for byte. So whatever a route is matched on has to be what the upstream will see, and a
target that two programs could read in two ways is refused: an encoded slash or backslash, dot segments (encoded or
not), control characters, broken escapes, overlong UTF-8, a path that begins with two slashes (RFC 3986 3.3, 6.2.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from strangler_proxy.core.errors import MalformedTarget

_PLAIN = re.compile(rb"/(?:[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*(?:/|\Z))*\Z")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_OVERLONG = re.compile(rb"[\xc0\xc1\xf5-\xff]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{0,5})?\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A request target taken apart. `sent` is what goes to the upstream, `path` what routes are matched on."""

    sent: bytes
    path: str
    query: bytes


def read_target(method: bytes, target: bytes, host: bytes) -> Target:
    """Take a target apart, or raise MalformedTarget with the status that it must get.

    Absolute-form is accepted for the authority that `Host` names, and sent on in origin-form (RFC 9112 3.2.2).

    >>> read_target(b"GET", b"/caf%C3%A9?q=%2F", b"x")
    Target(sent=b'/caf%C3%A9?q=%2F', path='/café', query=b'q=%2F')
    """
    if target[:1] != b"/":
        target = _origin_form(method, target, host)
        if target == b"*":
            return Target(target, "*", b"")
    if b"#" in target:
        raise MalformedTarget("the target has a fragment")
    raw, _, query = target.partition(b"?")
    return Target(target, canonical(raw), query)


def canonical(raw: bytes) -> str:
    """The path that an upstream will see, percent escapes decoded once; raises MalformedTarget.

    Bytes that are no UTF-8 (but no overlong form either) stay as lone surrogates: they match parameters only.

    >>> canonical(b"/a//b;v=1")
    '/a//b;v=1'
    """
    if _PLAIN.match(raw):
        return raw.decode("ascii")
    if raw[:2] == b"//":
        raise MalformedTarget("the path begins with two slashes")
    if _BROKEN_ESCAPE.search(raw):
        raise MalformedTarget("the path has a broken percent escape")
    decoded = unquote_to_bytes(raw)
    if decoded.count(b"/") != raw.count(b"/") or b"\\" in decoded:
        raise MalformedTarget("the path has an encoded slash or a backslash")
    if _CONTROL.search(decoded):
        raise MalformedTarget("the path has a control character")
    if _OVERLONG.search(decoded):
        raise MalformedTarget("the path has an overlong UTF-8 sequence")
    for segment in decoded.split(b"/"):
        if segment.partition(b";")[0] in (b".", b".."):
            raise MalformedTarget("the path has a dot segment")
    return decoded.decode("utf-8", "surrogateescape")


def is_host(value: bytes) -> bool:
    """Is it a host with an optional port, as `Host` may hold it (RFC 9110 7.2)?"""
    return _HOST.match(value) is not None


def host_name(value: bytes) -> str:
    """The host in lower case without its port: what routes are matched on.

    >>> host_name(b"Example.COM:8000"), host_name(b"[::1]:8000")
    ('example.com', '[::1]')
    """
    text = value.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


def query_fields(query: bytes) -> dict[str, str]:
    """Query fields for predicates: the first value of each name, bounded to 100 fields."""
    fields: dict[str, str] = {}
    text = query.decode("latin-1")
    if text.count("&") >= 100:
        return fields
    for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
        fields.setdefault(name, value)
    return fields


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    if target == b"*" and method == b"OPTIONS":
        return target
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise MalformedTarget("the target is neither a path nor an absolute URL")
    end = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if authority.lower() != host.lower():
        raise MalformedTarget("the target names another authority than Host")
    return path if path[:1] == b"/" else b"/" + path
