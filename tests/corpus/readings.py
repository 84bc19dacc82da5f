"""What a strict reader by RFC 9110, 9112 and 3986 says of bytes: in how many ways can they be read?

The yardstick of the corpus, the same for every proxy. It knows nothing of who forwarded the bytes.
"""

from __future__ import annotations

import re
from typing import Final

_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ([!-~]+) HTTP/1\.[01]\Z")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?\Z")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)\Z")
"""A recipient may keep control characters other than these three (RFC 9110 5.5)."""
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?\Z")
_FORGED: Final = re.compile(rb"(?:content_|transfer_|x_forwarded_|content-length_)", re.IGNORECASE)
_AMBIGUOUS_PATH: Final = (
    (re.compile(rb"%2f|%5c|\\", re.IGNORECASE), "an encoded slash or a backslash in the path"),
    (re.compile(rb"/(?:\.|%2e){1,2}(?:[/;]|\Z)", re.IGNORECASE), "dot segments in the path"),
    (re.compile(rb"%[01][0-9a-f]|%7f", re.IGNORECASE), "an encoded control character in the path"),
    (re.compile(rb"%c[01]|%e0%[89]|%f0%8|%f[5-9a-f]", re.IGNORECASE), "overlong UTF-8 in the path"),
    (re.compile(rb"%(?![0-9a-f]{2})", re.IGNORECASE), "a broken escape in the path"),
    (re.compile(rb"\A//"), "a path that begins with two slashes"),
    (re.compile(rb"#"), "a fragment"),
)


def doubts_of_request(raw: bytes) -> list[str]:
    """Everything in a request that two readers could read differently; empty where it is sound."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, _, block = head.partition(b"\r\n")
    fields, doubts = _fields(block)
    matched = _REQUEST_LINE.match(line)
    if matched is None:
        doubts.append("a request line that is none")
    else:
        doubts += _doubts_of_target(matched.group(1))
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and not line.endswith(b"1.0")):
        doubts.append("not one Host")
    elif hosts and not _HOST.match(hosts[0]):
        doubts.append("a Host that is none")
    if any(_FORGED.match(name) for name, _ in fields):
        doubts.append("a trusted name spelled with an underscore")
    if any(name == b"upgrade" and value.lower() == b"h2c" for name, value in fields):
        doubts.append("an upgrade that nobody watches")
    return doubts + _doubts_of_framing(fields, body)


def doubts_of_head(head: bytes) -> list[str]:
    """The same for the head of an answer, its empty line not included."""
    line, _, block = head.partition(b"\r\n")
    fields, doubts = _fields(block)
    if _STATUS_LINE.match(line) is None:
        doubts.append("a status line that is none")
    return doubts + _doubts_of_framing(fields, b"", whole=False)


def _fields(block: bytes) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    fields: list[tuple[bytes, bytes]] = []
    doubts: list[str] = []
    for line in block.split(b"\r\n") if block else ():
        matched = _FIELD.match(line)
        if matched is None:
            doubts.append("a line that is no field")
        else:
            fields.append((matched.group(1).lower(), matched.group(2).strip(b" \t")))
    return fields, doubts[:1]


def _doubts_of_target(target: bytes) -> list[str]:
    path = re.sub(rb"\A[Hh][Tt][Tt][Pp][Ss]?://[^/?#]*", b"", target).partition(b"?")[0]
    if path and not path.startswith((b"/", b"*")):
        return ["a target that is none"]
    if b"#" in target:
        return ["a fragment"]
    return [says for pattern, says in _AMBIGUOUS_PATH if pattern.search(path)]


def _doubts_of_framing(fields: list[tuple[bytes, bytes]], body: bytes, *, whole: bool = True) -> list[str]:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return ["two framings"]
    if any(not re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths):
        return ["a length that is no number"]
    if any(coding.lower() != b"chunked" for coding in codings):
        return ["another coding than chunked"]
    return _doubts_of_chunks(body) if codings and whole else []


def _doubts_of_chunks(body: bytes) -> list[str]:
    while True:
        line, _, body = body.partition(b"\r\n")
        size, _, extension = line.partition(b";")
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size) or re.search(rb"[\x00-\x08\x0a-\x1f]", extension):
            return ["a chunk size that is none"]
        if int(size, 16) == 0:
            trailers, doubts = _fields(body.partition(b"\r\n\r\n")[0].rstrip(b"\r\n"))
            if any(name in (b"content-length", b"transfer-encoding", b"host") for name, _ in trailers):
                doubts.append("a trailer that frames")
            return doubts
        if body[int(size, 16) : int(size, 16) + 2] != b"\r\n":
            return ["a chunk without its end"]
        body = body[int(size, 16) + 2 :]
