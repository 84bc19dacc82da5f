# ruff: noqa: E501 -- a table: one case a line
"""Answers of an evil or sick upstream, as bytes, each with what the client must get.

`parts` are sent one after the other; a number is a pause in seconds; `then` is what the upstream does afterwards.
`status` is what the client gets; 502 to 504 are answers of the proxy's own. `TRUNCATED` means that the client's
connection breaks, so that nobody takes what came for the whole. After every case the next request on another
connection is answered right: nothing of a bad answer stays behind in a pool.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

TRUNCATED: Final = 0


class Then(enum.Enum):
    """What the upstream does behind its answer."""

    CLOSE = "close"
    RESET = "reset"
    STAY = "stay"


@dataclass(frozen=True)
class AnswerCase:
    """One answer. `method` of the request that it is for; `never` must not reach the client.

    `ours`: that is a rule of this proxy, and no danger where another has none.
    """

    name: str
    parts: tuple[bytes | float, ...]
    status: int
    then: Then = Then.CLOSE
    method: str = "GET"
    never: bytes = b"\0evil\0"
    group: str = ""
    ours: bool = False


def _group(name: str, *cases: AnswerCase) -> tuple[AnswerCase, ...]:
    return tuple(replace(case, group=name) for case in cases)


OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EVIL: Final = b"X-Evil: 1"

# fmt: off
ANSWERS: Final = (
    *_group("nothing, or no HTTP",
        AnswerCase("closes at once", (), 502),
        AnswerCase("resets at once", (), 502, Then.RESET),
        AnswerCase("says nothing", (1.2,), 504, Then.STAY),
        AnswerCase("garbage", (b"\x00\x01\x02\x03garbage\r\n\r\n",), 502, Then.STAY),
        AnswerCase("bytes beyond ASCII", (bytes(range(128, 256)) * 4,), 502, Then.STAY),
        AnswerCase("a request", (b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n",), 502, Then.STAY),
        AnswerCase("TLS", (b"\x15\x03\x01\x00\x02\x02\x46",), 502, Then.STAY),
        AnswerCase("SSH", (b"SSH-2.0-OpenSSH_9.2\r\n",), 502, Then.STAY),
        AnswerCase("HTTP/0.9", (b"<html>hello</html>",), 502),
        AnswerCase("Shoutcast", (b"ICY 200 OK\r\n\r\n",), 502, Then.STAY),
        AnswerCase("Icecast", (b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("RTSP", (b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("HTTP/2", (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("HTTP/0.9 in a line", (b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a version that is none", (b"HTTP/x.y 200 OK\r\n\r\n",), 502, Then.STAY),
    ),
    *_group("status lines",
        AnswerCase("a status with four digits", (b"HTTP/1.1 2000 OK\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a status with one digit", (b"HTTP/1.1 2 OK\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a status below 100", (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a status that is a word", (b"HTTP/1.1 OK\r\n\r\n",), 502, Then.STAY),
        AnswerCase("no status", (b"HTTP/1.1\r\n\r\n",), 502, Then.STAY),
        AnswerCase("half a status line", (b"HTTP/1.1 20",), 502),
        AnswerCase("LF alone", (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",), 502, Then.STAY),
        AnswerCase("no phrase", (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",), 200, Then.STAY),
        AnswerCase("a phrase with a script", (b"HTTP/1.1 200 <script>\r\nContent-Length: 2\r\n\r\nok",), 200, Then.STAY, never=b"<script>", ours=True),
    ),
    *_group("fields",
        AnswerCase("half a head", (OK + b"Content-Le",), 502),
        AnswerCase("half a head and a reset", (OK + b"Content-Le", 0.05), 502, Then.RESET),
        AnswerCase("half a head and silence", (OK + b"Content-Le", 1.2), 504, Then.STAY),
        AnswerCase("a space before the colon", (OK + b"X-Evil : 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a name that is none", (OK + b"X Evil: 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("an empty name", (OK + b": 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a line without a colon", (OK + b"evil\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a folded line", (OK + b"X-A: 1\r\n X-Evil: 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("NUL in a value", (OK + b"X-A: \0\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a split by CR", (OK + b"X-A: a\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY, never=EVIL),
        AnswerCase("a split by LF", (OK + b"X-A: a\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n",), 502, Then.STAY, never=EVIL),
        AnswerCase("a fence that is none of a route", (OK + b"X-Strangler-Fence: x\r\nContent-Length: 2\r\n\r\nok",), 200, Then.STAY, never=b"Fence", ours=True),
        AnswerCase("fields for one hop", (OK + b"Connection: X-Evil\r\nX-Evil: 1\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok",), 200, Then.STAY, never=EVIL, ours=True),
    ),
    *_group("endless heads",
        AnswerCase("a field without an end", (OK + b"X-A: ", *((b"a" * 65_536,) * 8)), 502, Then.STAY),
        AnswerCase("fields without an end", (OK, *((b"X-A: b\r\n" * 8_192,) * 8)), 502, Then.STAY),
        AnswerCase("too many fields in one piece", (OK + b"X-A: b\r\n" * 300 + b"Content-Length: 0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a phrase without an end", (b"HTTP/1.1 200 ", *((b"a" * 65_536,) * 8)), 502, Then.STAY),
        AnswerCase("a head that dribbles", (OK, *((b"X-A: b\r\n", 0.1) * 10)), 504, Then.STAY),
    ),
    *_group("interim answers",
        AnswerCase("a flood of 103", (b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n" * 1_000,), 502, Then.STAY),
        AnswerCase("a flood of 100", (*((b"HTTP/1.1 100 Continue\r\n\r\n" * 100,) * 50),), 502, Then.STAY),
        AnswerCase("103 that never end", (b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.2) * 6, 504, Then.STAY),
        AnswerCase("a 101 unasked", (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",), 502, Then.STAY),
        AnswerCase("a 101 without fields", (b"HTTP/1.1 101 Switching Protocols\r\n\r\nabc",), 502, Then.STAY),
        AnswerCase("an interim answer with a length", (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",), 200, Then.STAY),
        AnswerCase("only an interim answer", (b"HTTP/1.1 103 Early Hints\r\n\r\n",), 502),
    ),
    *_group("lengths",
        AnswerCase("two lengths that differ", (OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nokevil",), 502, Then.STAY),
        AnswerCase("two equal lengths", (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a list of lengths", (OK + b"Content-Length: 2, 2\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a negative length", (OK + b"Content-Length: -2\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a signed length", (OK + b"Content-Length: +2\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a hexadecimal length", (OK + b"Content-Length: 0x2\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("an empty length", (OK + b"Content-Length:\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a length that overflows", (OK + b"Content-Length: 99999999999999999999\r\n\r\nok",), 502, Then.STAY),
        AnswerCase("a length and a coding", (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a coding and a length", (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("less than its length", (OK + b"Content-Length: 100\r\n\r\nok",), TRUNCATED),
        AnswerCase("less than its length and a reset", (OK + b"Content-Length: 100\r\n\r\nok", 0.05), TRUNCATED, Then.RESET),
        AnswerCase("less than its length and silence", (OK + b"Content-Length: 100\r\n\r\nok", 1.2), TRUNCATED, Then.STAY),
        AnswerCase("more than its length: an answer", (OK + b"Content-Length: 2\r\n\r\nok" + OK + b"X-Evil: 1\r\nContent-Length: 4\r\n\r\nevil",), 200, Then.STAY, never=EVIL),
        AnswerCase("more than its length: half an answer", (OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 ",), 200, Then.STAY),
        AnswerCase("more than its length: one byte", (OK + b"Content-Length: 2\r\n\r\nokH",), 200, Then.STAY),
        AnswerCase("more than its length: garbage", (OK + b"Content-Length: 2\r\n\r\nok\0\0\0",), 200, Then.STAY),
        AnswerCase("more than its length, later", (OK + b"Content-Length: 2\r\n\r\nok", 0.1, OK + b"X-Evil: 1\r\nContent-Length: 4\r\n\r\nevil"), 200, Then.STAY, never=EVIL),
        AnswerCase("a body of HEAD", (OK + b"Content-Length: 4\r\n\r\nevil",), 200, Then.STAY, "HEAD", b"evil"),
        AnswerCase("a body of HEAD, later", (OK + b"Content-Length: 4\r\n\r\n", 0.1, b"evil"), 200, Then.STAY, "HEAD", b"evil"),
        AnswerCase("a body of 204", (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",), 204, Then.STAY, never=b"evil"),
        AnswerCase("a length of 204", (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",), 204, Then.STAY, never=b"Content-Length", ours=True),
        AnswerCase("a body of 304", (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",), 304, Then.STAY, never=b"evil"),
        AnswerCase("until the end", (OK + b"\r\nall",), 200),
        AnswerCase("until a reset", (OK + b"\r\nall", 0.05), TRUNCATED, Then.RESET),
    ),
    *_group("chunks",
        AnswerCase("another coding", (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("an unknown coding", (OK + b"Transfer-Encoding: evil\r\n\r\nok",), 502),
        AnswerCase("chunked twice", (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",), 502, Then.STAY),
        AnswerCase("a chunk size that is none", (CHUNKED + b"zz\r\n",), TRUNCATED, Then.STAY),
        AnswerCase("a chunk size that overflows", (CHUNKED + b"fffffffffffffffff\r\n",), TRUNCATED, Then.STAY),
        AnswerCase("a negative chunk size", (CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",), TRUNCATED, Then.STAY),
        AnswerCase("a chunk longer than its size", (CHUNKED + b"2\r\nokevil\r\n0\r\n\r\n",), TRUNCATED, Then.STAY),
        AnswerCase("a chunk that is not ended", (CHUNKED + b"5\r\nok",), TRUNCATED),
        AnswerCase("no last chunk", (CHUNKED + b"2\r\nok\r\n",), TRUNCATED),
        AnswerCase("no end behind the last chunk", (CHUNKED + b"2\r\nok\r\n0\r\n",), TRUNCATED),
        AnswerCase("trailers without an end", (CHUNKED + b"2\r\nok\r\n0\r\n", 0.05, *((b"X-T: 1\r\n" * 8_192,) * 8)), TRUNCATED, Then.STAY),
        AnswerCase("an extension without an end", (CHUNKED + b"2;", 0.05, *((b"a" * 65_536,) * 8)), TRUNCATED, Then.STAY),
        AnswerCase("trailers that set cookies", (CHUNKED + b"2\r\nok\r\n0\r\nSet-Cookie: evil=1\r\n\r\n",), 200, Then.STAY, never=b"evil", ours=True),
        AnswerCase("an answer behind the last chunk", (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK + b"X-Evil: 1\r\nContent-Length: 0\r\n\r\n",), 200, Then.STAY, never=EVIL),
        AnswerCase("a body that dribbles without an end", (CHUNKED, *((b"1\r\na\r\n", 0.1) * 16)), TRUNCATED, Then.STAY),
    ),
    *_group("good answers",
        AnswerCase("a plain answer", (OK + b"Content-Length: 2\r\n\r\nok",), 200, Then.STAY),
        AnswerCase("line ends behind an answer", (OK + b"Content-Length: 2\r\n\r\nok\r\n\r\n",), 200, Then.STAY),
        AnswerCase("HTTP/1.0", (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",), 200),
    ),
)
# fmt: on
