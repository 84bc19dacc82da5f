# ruff: noqa: E501 -- a table: one case a line
"""Requests that a guard has to meet, as bytes, each with the outcome it must have.

`parts` are sent one after the other; a number is a pause in seconds. Outcomes:

- `REFUSED`: one of `status` and a closed connection, and not a byte reaches the upstream;
- `BROKEN`: the head was good, so a part may have been streamed; `status` or a broken connection, and the upstream
  never sees a whole request;
- `PASSED`: answered 200, and the upstream sees exactly one request, `sent` being its first line;
- `CUT`: the connection is closed without an answer, and not a byte reaches the upstream.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

POST = b"POST /s HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /s HTTP/1.1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Outcome(enum.Enum):
    """What becomes of a request."""

    REFUSED = "refused"
    BROKEN = "broken"
    PASSED = "passed"
    CUT = "cut"


@dataclass(frozen=True)
class RequestCase:
    """One connection of a client."""

    name: str
    parts: tuple[bytes | float, ...]
    outcome: Outcome = Outcome.REFUSED
    status: tuple[int, ...] = (400,)
    sent: bytes = b""
    group: str = ""


REFUSED: Final = Outcome.REFUSED
BROKEN: Final = Outcome.BROKEN
PASSED: Final = Outcome.PASSED
CUT: Final = Outcome.CUT

MALFORMED: Final[dict[str, bytes]] = {
    "two framings": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two framings, other order": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two lengths that differ": POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "two equal lengths": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"Content-Length: \r\n\r\nabc",
    "a length that overflows": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "an unknown transfer coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a second transfer coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunked and identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked with a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /s HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "space before the colon of a length": POST + b"Content-Length : 3\r\n\r\nabc",
    "a chunk size that overflows": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a negative chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with a prefix": POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends in LF": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "a folded line": GET + b"Host: x\r\nX-A: 1\r\n b: 2\r\n\r\n",
    "a folded first line": GET + b" Host: x\r\n\r\n",
    "bare LF": b"GET /s HTTP/1.1\nHost: x\n\n",
    "bare LF in a field": GET + b"Host: x\r\nX-A: 1\nX-B: 2\r\n\r\n",
    "bare CR in a field": GET + b"Host: x\r\nX-A: a\rb: c\r\n\r\n",
    "NUL in a value": GET + b"Host: x\r\nX-A: a\x00b\r\n\r\n",
    "NUL in a name": GET + b"Host: x\r\nX\x00A: b\r\n\r\n",
    "a control character in a value": GET + b"Host: x\r\nX-A: a\x01b\r\n\r\n",
    "an empty name": GET + b"Host: x\r\n: b\r\n\r\n",
    "a line without a colon": GET + b"Host: x\r\nX-A\r\n\r\n",
    "a name with a space": GET + b"Host: x\r\nX A: b\r\n\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + b"Host: a\r\nHost: b\r\n\r\n",
    "two equal Hosts": GET + b"Host: a\r\nHost: a\r\n\r\n",
    "an empty Host": GET + b"Host: \r\n\r\n",
    "a Host with a path": GET + b"Host: a/b\r\n\r\n",
    "a Host with a user": GET + b"Host: u@a\r\n\r\n",
    "a Host that is a list": GET + b"Host: a, b\r\n\r\n",
    "absolute-form to another authority": b"GET http://evil/s HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute-form of another scheme": b"GET ftp://x/s HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    "an asterisk for GET": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target without a slash": b"GET s HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded slash": b"GET /a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded slash, lower case": b"GET /a%2fb HTTP/1.1\r\nHost: x\r\n\r\n",
    "a backslash": b"GET /a\\b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded backslash": b"GET /a%5Cb HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot segments": b"GET /plain/../f/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded dot segments": b"GET /plain/%2e%2E/f/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot segments with a parameter": b"GET /plain/..;x/f HTTP/1.1\r\nHost: x\r\n\r\n",
    "a single dot": b"GET /f/./x HTTP/1.1\r\nHost: x\r\n\r\n",
    "an overlong slash": b"GET /a%c0%afb HTTP/1.1\r\nHost: x\r\n\r\n",
    "an overlong dot": b"GET /%e0%80%ae%e0%80%ae/b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded NUL": b"GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an encoded line end": b"GET /a%0d%0ab HTTP/1.1\r\nHost: x\r\n\r\n",
    "a broken escape": b"GET /a%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that begins with two slashes": b"GET //evil/s HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a raw byte in the target": b"GET /a\xffb HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /s HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /s\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
"""All of them get 400."""

_BEGINS: Final = {
    "two framings": "framing",
    "a folded line": "lines",
    "NUL in a value": "fields",
    "no Host": "Host",
    "absolute-form to another authority": "targets",
    "HTTP/2.0": "methods and versions",
}
"""Where in `MALFORMED` a group begins."""


def _malformed() -> Iterator[RequestCase]:
    group = ""
    for name, raw in MALFORMED.items():
        group = _BEGINS.get(name, group)
        yield RequestCase(name, (raw,), group=group)


def _group(name: str, *cases: RequestCase) -> tuple[RequestCase, ...]:
    return tuple(replace(case, group=name) for case in cases)


def _slow(raw: bytes, pause_s: float = 0.1) -> tuple[bytes | float, ...]:
    parts: list[bytes | float] = []
    for at in range(len(raw)):
        parts += [raw[at : at + 1], pause_s]
    return tuple(parts)


# fmt: off
_OTHERS: Final = (
    *_group("methods and versions",
        RequestCase("an unknown method", (b"BREW /s HTTP/1.1\r\nHost: x\r\n\r\n",), status=(501,)),
        RequestCase("a method in lower case", (b"get /s HTTP/1.1\r\nHost: x\r\n\r\n",), status=(501,)),
        RequestCase("a method that begins like one", (b"GETX /s HTTP/1.1\r\nHost: x\r\n\r\n",), status=(400, 501)),
        RequestCase("an unknown method with a body", (b"BREW /s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",), status=(501,)),
        RequestCase("a method of RTSP", (b"DESCRIBE /s RTSP/1.0\r\nHost: x\r\n\r\n",), status=(400, 501)),
        RequestCase("a request of Icecast", (b"SOURCE /s ICE/1.0\r\nHost: x\r\n\r\n",), status=(400, 501)),
        RequestCase("a method of Icecast in HTTP", (b"SOURCE /s HTTP/1.1\r\nHost: x\r\n\r\n",), status=(501,)),
        RequestCase("a method in quotes", (b'"GET" /s HTTP/1.1\r\nHost: x\r\n\r\n',)),
        RequestCase("QUERY", (b"QUERY /s HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"QUERY /s HTTP/1.1"),
        RequestCase("PROPFIND", (b"PROPFIND /s HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"PROPFIND /s HTTP/1.1"),
        RequestCase("OPTIONS *", (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"OPTIONS * HTTP/1.1"),
        RequestCase("OPTIONS in RTSP", (b"OPTIONS /s RTSP/1.1\r\nHost: x\r\n\r\n",)),
    ),
    *_group("hops",
        RequestCase("no hops left", (b"OPTIONS /s HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",), status=(501,)),
        RequestCase("a TRACE with no hops left", (b"TRACE /s HTTP/1.1\r\nHost: x\r\nMax-Forwards: 00\r\nConnection: close\r\n\r\n",), status=(501,)),
        RequestCase("hops that are no number", (b"TRACE /s HTTP/1.1\r\nHost: x\r\nMax-Forwards: -1\r\n\r\n",)),
        RequestCase("two numbers of hops", (b"GET /s HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\nMax-Forwards: 2\r\n\r\n",)),
        RequestCase("a loop", (GET + b"Host: x\r\nVia: 1.1 strangler-proxy\r\nConnection: close\r\n\r\n",), status=(508,)),
    ),
    *_group("lines",
        RequestCase("a tab after the method", (b"GET\t/s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("a tab before the version", (b"GET /s\tHTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("a space after the version", (b"GET /s HTTP/1.1 \r\nHost: x\r\n\r\n",)),
        RequestCase("a space before the method", (b" GET /s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("a version without a minor", (b"GET /s HTTP/1\r\nHost: x\r\n\r\n",)),
        RequestCase("a version with two digits", (b"GET /s HTTP/1.10\r\nHost: x\r\n\r\n",)),
        RequestCase("HTTP/1.2", (b"GET /s HTTP/1.2\r\nHost: x\r\n\r\n",)),
        RequestCase("HTTP/3.0", (b"GET /s HTTP/3.0\r\nHost: x\r\n\r\n",)),
        RequestCase("a version in lower case", (b"GET /s http/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("another protocol", (b"GET /s XTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("no target", (b"GET HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("CR alone as line ends", (b"GET /s HTTP/1.1\rHost: x\r\r",)),
        RequestCase("CR CR LF", (b"GET /s HTTP/1.1\r\r\nHost: x\r\n\r\n",)),
        RequestCase("LF alone before the body", (POST + b"Content-Length: 3\r\n\nabc",)),
        RequestCase("the head of a proxy protocol", (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /s HTTP/1.1\r\nHost: x\r\n\r\n",), status=(400, 501)),
        RequestCase("a reply", (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",)),
        RequestCase("SSH", (b"SSH-2.0-OpenSSH_9.2\r\n",), status=(400, 501)),
        RequestCase("SMTP", (b"EHLO example.com\r\n",), status=(400, 501)),
        RequestCase("Redis", (b"*1\r\n$4\r\nPING\r\n",)),
        RequestCase("zeros", (b"\0" * 100,)),
        RequestCase("bytes without sense", (bytes(range(128, 256)),)),
        RequestCase("line ends before a request", (b"\r\n\r\n" + GET + b"Host: x\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
    ),
    *_group("fields",
        RequestCase("a name in brackets", (GET + b"Host: x\r\n(X): 1\r\n\r\n",)),
        RequestCase("a name with a slash", (GET + b"Host: x\r\nX/A: 1\r\n\r\n",)),
        RequestCase("a name beyond ASCII", (GET + b"Host: x\r\nX-\xe9: 1\r\n\r\n",)),
        RequestCase("DEL in a value", (GET + b"Host: x\r\nX-A: \x7f\r\n\r\n",)),
        RequestCase("a vertical tab in a value", (GET + b"Host: x\r\nX-A: a\x0bb\r\n\r\n",)),
        RequestCase("a line folded with a tab", (GET + b"Host: x\r\nX-A: 1\r\n\tb\r\n\r\n",)),
        RequestCase("a folded Host", (GET + b"Host:\r\n x\r\n\r\n",)),
        RequestCase("a folded length", (POST + b"Content-Length:\r\n 3\r\n\r\nabc",)),
        RequestCase("a folded coding", (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",)),
        RequestCase("bytes beyond ASCII in a value", (GET + b"Host: x\r\nX-A: \xc3\xa9\xff\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("an empty value", (GET + b"Host: x\r\nX-A:\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("a forged length with an underscore", (GET + b"Host: x\r\nContent_Length: 5\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("a forged coding with an underscore", (GET + b"Host: x\r\nTransfer_Encoding: chunked\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("Host nominated away", (GET + b"Host: x\r\nConnection: Host\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
    ),
    *_group("Host",
        RequestCase("a Host with a space", (GET + b"Host: a b\r\n\r\n",)),
        RequestCase("a Host with a fragment", (GET + b"Host: a#b\r\n\r\n",)),
        RequestCase("a Host with a query", (GET + b"Host: a?b\r\n\r\n",)),
        RequestCase("a Host with a port that is none", (GET + b"Host: a:b\r\n\r\n",)),
        RequestCase("a Host with two ports", (GET + b"Host: a:1:2\r\n\r\n",)),
        RequestCase("a Host with an escape", (GET + b"Host: a%2eb\r\n\r\n",)),
        RequestCase("an address in half a bracket", (GET + b"Host: [::1\r\n\r\n",)),
        RequestCase("a Host in quotes", (GET + b'Host: "a"\r\n\r\n',)),
        RequestCase("an IPv6 address", (GET + b"Host: [::1]:80\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("two Hosts in HTTP/1.0", (b"GET /s HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",)),
        RequestCase("no Host in HTTP/1.0", (b"GET /s HTTP/1.0\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
    ),
    *_group("targets",
        RequestCase("an absolute target to this host", (b"GET http://x/s HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("an absolute target with a user", (b"GET http://u@x/s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an absolute target to another port", (b"GET http://x:81/s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("dot segments behind an authority", (b"GET http://x/../s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("two slashes behind an authority", (b"GET http://x//s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an authority as the target", (b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("a file", (b"GET file:///s HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("dot segments at the end", (b"GET /a/.. HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("dots half encoded", (b"GET /a/.%2e/b HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an overlong slash in three bytes", (b"GET /a%e0%80%afb HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an overlong slash in four bytes", (b"GET /a%f0%80%80%afb HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an encoded DEL", (b"GET /a%7f HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("half an escape", (b"GET /a%2 HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("two fragments", (b"GET /#a#b HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("NUL in the target", (b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",)),
        RequestCase("an escaped percent", (b"GET /a%252e%252e/b HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"GET /a%252e%252e/b HTTP/1.1"),
        RequestCase("a slash in the query", (b"GET /a?b=/../%2F HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"GET /a?b=/../%2F HTTP/1.1"),
        RequestCase("three dots", (b"GET /a/.../b HTTP/1.1\r\nHost: x\r\n\r\n",), PASSED, sent=b"GET /a/.../b HTTP/1.1"),
    ),
    *_group("framing",
        RequestCase("a length with a space within", (POST + b"Content-Length: 1 3\r\n\r\nabc",)),
        RequestCase("a length in other digits", (POST + b"Content-Length: \xd9\xa3\r\n\r\nabc",)),
        RequestCase("a length with an underscore", (POST + b"Content-Length: 1_0\r\n\r\nabcdefghij",)),
        RequestCase("a length with a decimal point", (POST + b"Content-Length: 3.0\r\n\r\nabc",)),
        RequestCase("a length with leading zeros", (POST + b"Content-Length: 003\r\n\r\nabc",), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("a length in HTTP/1.0", (b"POST /s HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("a body of GET", (GET + b"Host: x\r\nContent-Length: 3\r\n\r\nabc",), PASSED, sent=b"GET /s HTTP/1.1"),
        RequestCase("a coding in capitals", (POST + b"TRANSFER-ENCODING: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("a coding in quotes", (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',)),
        RequestCase("a coding with a parameter", (POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",)),
        RequestCase("a coding behind a comma", (POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",)),
        RequestCase("chunked, then another coding", (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",)),
        RequestCase("identity", (POST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",)),
        RequestCase("an empty coding", (POST + b"Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc",)),
        RequestCase("a chunk size with a space", (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",)),
        RequestCase("a chunk size behind a space", (CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",)),
        RequestCase("a chunk size with an underscore", (CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n",)),
        RequestCase("an empty chunk size", (CHUNKED + b"\r\nabc\r\n0\r\n\r\n",)),
        RequestCase("a chunk without its end", (CHUNKED + b"3\r\nabc0\r\n\r\n",)),
        RequestCase("LF in an extension", (CHUNKED + b"3;a=\nb\r\nabc\r\n0\r\n\r\n",)),
        RequestCase("CR in an extension", (CHUNKED + b"3;a=\rb\r\nabc\r\n0\r\n\r\n",)),
        RequestCase("an extension in open quotes", (CHUNKED + b'3;a="\r\nabc\r\n0\r\n\r\n',)),
        RequestCase("an extension", (CHUNKED + b'3;a="b"\r\nabc\r\n0\r\n\r\n',), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("a trailer", (CHUNKED + b"0\r\nX-A: 1\r\n\r\n",), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("trailers that frame", (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",), PASSED, (200, 400), sent=b"POST /s HTTP/1.1"),
        RequestCase("LF alone between trailers", (CHUNKED + b"0\r\nX-A: 1\nX-B: 2\r\n\r\n",)),
        RequestCase("a malformed trailer", (CHUNKED + b"0\r\nX A: 1\r\n\r\n",)),
        RequestCase("a broken chunk behind a good one", (CHUNKED + b"3\r\nabc\r\n", 0.1, b"zz\r\n"), BROKEN),
        RequestCase("a length that is not kept", (POST + b"Content-Length: 10\r\n\r\nabc", 1.2), BROKEN, (408,)),
        RequestCase("a body of an upgrade", (POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",), PASSED, sent=b"POST /s HTTP/1.1"),
        RequestCase("HTTP/2 without asking", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",)),
        RequestCase("an expectation that is none", (POST + b"Content-Length: 3\r\nExpect: 200-maybe\r\n\r\nabc",), status=(417,)),
    ),
    *_group("limits",
        RequestCase("too many fields", (GET + b"Host: x\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",), status=(431,)),
        RequestCase("a field too long", (GET + b"Host: x\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",), status=(431,)),
        RequestCase("a name too long", (GET + b"Host: x\r\n" + b"a" * 70_000 + b": b\r\n\r\n",), status=(431,)),
        RequestCase("a field without an end", (GET + b"Host: x\r\nX-A: " + b"a" * 2_000_000,), status=(431,)),
        RequestCase("fields without an end", (GET + b"Host: x\r\n" + b"X-A: b\r\n" * 250_000,), status=(431,)),
        RequestCase("a target too long", (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",), status=(414,)),
        RequestCase("a target without an end", (b"GET /" + b"a" * 2_000_000,), status=(414,)),
        RequestCase("a query too long", (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",), status=(414,)),
        RequestCase("a method without an end", (b"G" * 2_000_000,), status=(400, 501)),
        RequestCase("a body too large", (POST + b"Content-Length: 1048577\r\n\r\n",), status=(413,)),
        RequestCase("a body too large that asks first", (POST + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n",), status=(413,)),
        RequestCase("a chunked body too large", (CHUNKED + (b"10000\r\n" + b"a" * 65_536 + b"\r\n") * 17,), BROKEN, (413,)),
        RequestCase("trailers without an end", (CHUNKED + b"0\r\n" + b"X-T: 1\r\n" * 100_000,), BROKEN, (431,)),
        RequestCase("an extension without an end", (CHUNKED + b"1;" + b"a" * 300_000,), BROKEN, (400, 431)),
        RequestCase("a chunk size without an end", (CHUNKED + b"0" * 300_000,), BROKEN, (400, 431)),
    ),
    *_group("slow and silent clients",
        RequestCase("nobody speaks", (1.0,), CUT),
        RequestCase("line ends only", (b"\r\n", 0.3, b"\r\n", 0.3, b"\r\n", 0.4), CUT),
        RequestCase("a head that stops in its line", (b"GET /s HT", 1.0), status=(408,)),
        RequestCase("a head that stops in its fields", (GET + b"Host: x\r\nX-A: ", 1.0), status=(408,)),
        RequestCase("a head that stops before its end", (GET + b"Host: x\r\n", 1.0), status=(408,)),
        RequestCase("a head that dribbles", _slow(GET + b"Host: x\r\n")[:24], status=(408,)),
        RequestCase("a body that does not come", (POST + b"Content-Length: 3\r\n\r\n", 1.2), BROKEN, (408,)),
        RequestCase("a body that stops", (CHUNKED + b"3\r\nab", 1.2), BROKEN, (408,)),
        RequestCase("a body that dribbles without an end", (CHUNKED, *_slow(b"1\r\na\r\n" * 4, 0.06)), BROKEN, (408, 504)),
        RequestCase("a client that leaves in its head", (b"GET /s HT",), CUT),
    ),
)
# fmt: on

REQUESTS: Final = (
    *_malformed(),
    *_OTHERS,
)
