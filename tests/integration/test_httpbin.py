"""httpbin behind the proxy: every endpoint, byte for byte as it answers when it is asked directly.

What differs is what a proxy must change: `Via` and `X-Request-Id` are added to answers, and to requests the fields in
`ADDED`; the direct request carries them too, because httpbin shows what it was sent. The framing of a body belongs to
one connection. The clock and chance are masked.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.httpbin_process import VENV, httpbin, python
from tests.integration.engine_rig import Answer, Client
from tests.running_proxy import RunningProxy

HOST = "example.com"
ADDED = (
    "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: example.com\r\n"
    'Forwarded: for=127.0.0.1;host="example.com";proto=http\r\nVia: 1.1 strangler-proxy\r\n'
    "Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01\r\n"
)
GIVEN = "X-Request-Id: mine-1\r\nUser-Agent: corpus/1\r\nAccept: */*\r\n"
OURS = frozenset({"via", "x-request-id"})
ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "date"})
CHANCE = frozenset({"last-modified", "etag"})
MASKED = (
    (rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", b"TRACE"),
    (rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", b"UUID"),
    (rb'(?<=nonce=")[0-9a-f]+|(?<=opaque=")[0-9a-f]+', b"CHANCE"),
)

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
JSON = "Content-Type: application/json\r\n"
MULTIPART = "Content-Type: multipart/form-data; boundary=b\r\n"
PARTS = b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n\x00\x01\xff\r\n--b--\r\n'
BASIC = "Authorization: Basic dTpw\r\n"  # u:p

Case = tuple[str, str, str, bytes]


def cases() -> list[Case]:
    """Method, target, fields and body of every request."""
    plain = [
        "/", "/legacy", "/html", "/robots.txt", "/deny", "/ip", "/uuid", "/headers", "/user-agent",
        "/get?a=1&a=2&b=%2F", "/headers?show_env=1", "/gzip", "/deflate", "/brotli", "/redirect/2",
        "/redirect/3?absolute=true", "/redirect-to?url=/get&status_code=307", "/relative-redirect/2",
        "/relative-redirect/1", "/absolute-redirect/2", "/stream/5", "/stream/0",
        "/response-headers?X-A=1&X-A=2&Content-Type=text%2Fplain", "/cookies", "/cookies/set/a/b",
        "/cookies/set?a=1&b=2", "/cookies/delete?a=&b=", "/forms/post", "/basic-auth/u/p", "/hidden-basic-auth/u/p",
        "/bearer", "/digest-auth/auth/u/p", "/digest-auth/auth-int/u/p/SHA-256", "/digest-auth/auth/u/p/MD5/2",
        "/drip?duration=0.2&numbytes=20", "/drip?numbytes=3&duration=0&code=503", "/base64/SFRUUEJJTg==",
        "/base64/%21", "/cache", "/cache/60", "/etag/abc", "/encoding/utf8", "/bytes/5000?seed=7", "/bytes/0?seed=7",
        "/stream-bytes/30000?seed=7&chunk_size=999", "/range/1000", "/range/100?chunk_size=7&duration=0.1",
        "/range/0", "/links/5", "/links/5/2", "/image", "/image/png", "/image/jpeg", "/image/webp", "/image/svg",
        "/xml", "/json", "/delay/0.2", "/random-delay/0", "/spec.json", "/anything",
        "/anything/a//b;c=1/%C3%A9?x=%20y", "/flasgger_static/swagger-ui.css", "/static/favicon.ico", "/nowhere",
        "/status/418:1,500:0",
    ]  # fmt: skip
    found: list[Case] = [("GET", target, "", b"") for target in plain]
    found += [("HEAD", target, "", b"") for target in plain]
    found += [("OPTIONS", target, "Origin: http://a\r\nAccess-Control-Request-Headers: x\r\n", b"") for target in plain]
    statuses = (200, 201, 202, 204, 206, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 409,
                410, 412, 413, 414, 415, 418, 422, 429, 431, 451, 500, 501, 502, 503, 504, 505, 599)  # fmt: skip
    found += [("GET", f"/status/{status}", "", b"") for status in (*statuses, "x")]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        at = f"/{method.lower()}"
        found += [
            (method, f"{at}?q=1", FORM, b"a=1&b=%C3%A9"),
            (method, at, JSON, b'{"a": [1, 2.50, "\xc3\xa9"]}'),
            (method, at, MULTIPART, PARTS),
            (method, at, "Content-Type: application/octet-stream\r\n", bytes(range(256)) * 400),
            (method, at, "", b""),
            (method, "/anything/x", JSON, b"[]"),
            (method, "/anything", "", b""),
            (method, "/status/202", "", b"x"),
            (method, "/delay/0", FORM, b"a=1"),
            (method, "/random-delay/0", FORM, b"a=1"),
            (method, "/redirect-to?url=/x", FORM, b"a=1"),
        ]
    found += [("TRACE", target, "", b"") for target in ("/anything", "/anything/x", "/status/200", "/delay/0",
                                                         "/random-delay/0", "/redirect-to?url=/x")]  # fmt: skip
    found += [
        ("POST", "/response-headers?X-A=1", "", b""),
        ("PROPFIND", "/get", "", b""),
        ("GET", "/basic-auth/u/p", BASIC, b""),
        ("GET", "/hidden-basic-auth/u/p", BASIC, b""),
        ("GET", "/bearer", "Authorization: Bearer t\r\n", b""),
        ("GET", "/cookies", "Cookie: a=1; b=2\r\n", b""),
        ("GET", "/cache", "If-None-Match: x\r\n", b""),
        ("GET", "/etag/abc", 'If-None-Match: "abc"\r\n', b""),
        ("GET", "/etag/abc", 'If-Match: "other"\r\n', b""),
        ("GET", "/range/1000", "Range: bytes=10-19\r\n", b""),
        ("GET", "/range/1000", "Range: bytes=-5\r\n", b""),
        ("GET", "/range/1000", "Range: bytes=2000-\r\n", b""),
        ("GET", "/image", "Accept: image/webp\r\n", b""),
        ("GET", "/headers", "X-A: 1\r\nX-A: 2\r\nX-Empty:\r\nAccept-Encoding: gzip\r\n", b""),
        ("GET", "/get", "Content-Type: text/plain\r\n", b"a body of GET"),
    ]
    return found


pytestmark = pytest.mark.timeout(420)


@dataclass(frozen=True)
class Both:
    """Ports: httpbin itself, and the proxy before it."""

    direct: int
    proxied: int


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with (
        httpbin() as port,
        RunningProxy(
            tmp_path_factory.mktemp("httpbin"), STRANGLER_UPSTREAM=f"http://127.0.0.1:{port}", STRANGLER_ACCESS_LOG="0"
        ) as proxy,
    ):
        proxy.start()
        yield Both(port, proxy.port)


def asked(port: int, case: Case, fields: str) -> Answer:
    method, target, given, body = case
    accept = "" if "Accept:" not in given else "Accept: */*\r\n"
    with Client(port, 20) as client:
        return client.get(target, GIVEN.replace(accept, "") + given + fields, method, body)


def said(answer: Answer) -> list[tuple[str, bytes]]:
    """The fields of an answer without those that belong to one connection, clock and chance masked.

    How long a packed body is depends on chance: httpbin packs the id of the trace, too.
    """
    pairs = [line.partition(b":") for line in answer.head.split(b"\r\n")[1:] if line]
    found = [(name.decode().lower(), masked(value.strip())) for name, _, value in pairs]
    chance = CHANCE | {"content-length"} if answer.values("content-encoding") else CHANCE
    return [(name, b"" if name in chance else value) for name, value in found if name not in ONE_HOP]


def masked(text: bytes) -> bytes:
    for pattern, instead in MASKED:
        text = re.sub(pattern, instead, text)
    return text


def content(answer: Answer) -> bytes:
    """The body, unpacked, clock and chance masked."""
    body, coding = answer.body, b"".join(answer.values("content-encoding"))
    if body and coding == b"gzip":
        body = gzip.decompress(body)
    elif body and coding == b"deflate":
        body = zlib.decompress(body)
    elif body and coding == b"br":
        unpack = "import sys, brotlicffi as b; sys.stdout.buffer.write(b.decompress(sys.stdin.buffer.read()))"
        body = subprocess.run([python(), "-c", unpack], input=body, capture_output=True, timeout=60, check=True).stdout
    return masked(body)


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case[0]} {case[1]} {case[2][:12].strip()}{len(case[3])}")
def test_through_the_proxy_it_answers_as_it_does_directly(both: Both, case: Case) -> None:
    direct, proxied = asked(both.direct, case, ADDED), asked(both.proxied, case, "")
    assert proxied.status == direct.status
    assert [pair for pair in said(proxied) if pair[0] not in OURS] == said(direct)
    assert proxied.values("via") == [b"1.1 strangler-proxy"]
    assert proxied.values("x-request-id") == [b"mine-1"]
    assert content(proxied) == content(direct)


MATCH = """
import json, sys
from httpbin import app
urls = app.url_map.bind("example.com")
met = set()
for method, target in json.load(sys.stdin):
    try:
        rule, _ = urls.match(target.partition("?")[0], method=method, return_rule=True)
    except Exception:
        continue
    met.add((rule.rule, method))
every = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods}
print(json.dumps(sorted(every - met)))
"""


def test_every_endpoint_with_every_method_is_asked() -> None:
    asked_for = [(method, target) for method, target, _, _ in cases()]
    done = subprocess.run(
        [python(), "-W", "ignore", "-c", MATCH], input=json.dumps(asked_for), capture_output=True, text=True,
        timeout=60, check=True, cwd=VENV,
    )  # fmt: skip
    missing = json.loads(done.stdout)
    assert [pair for pair in missing if pair[1] not in ("HEAD", "OPTIONS")] == []
