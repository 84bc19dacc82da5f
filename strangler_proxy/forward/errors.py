"""Answers of our own: problem+json with RFC 9209 `Proxy-Status`; never a stack trace, never an internal address."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus

import httptools


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One way in which a request fails here. `error` is its RFC 9209 type, `code` ours (and the metric's label).

    `retry`: the client may try again, so `Retry-After` is sent. `closes`: the connection cannot be trusted any more.
    """

    status: int
    code: str
    error: str
    detail: str
    retry: bool = False
    closes: bool = False


MALFORMED = Problem(
    status=400,
    code="malformed_request",
    error="http_request_error",
    detail="The request could not be read safely.",
    closes=True,
)
HEADERS_TOO_LARGE = Problem(
    status=431,
    code="headers_too_large",
    error="http_request_error",
    detail="The request has too many or too large header fields.",
    closes=True,
)
TARGET_TOO_LONG = Problem(
    status=414, code="target_too_long", error="http_request_error", detail="The target is too long.", closes=True
)
BODY_TOO_LARGE = Problem(
    status=413, code="body_too_large", error="http_request_error", detail="The body is too large.", closes=True
)
TOO_SLOW = Problem(
    status=408,
    code="request_timeout",
    error="http_request_error",
    detail="The request did not arrive in time.",
    closes=True,
)
EXPECTATION = Problem(
    status=417,
    code="expectation_failed",
    error="http_request_error",
    detail="Only 100-continue can be expected.",
    closes=True,
)
NOT_IMPLEMENTED = Problem(
    status=501,
    code="method_not_implemented",
    error="http_request_error",
    detail="This method is not known here.",
    closes=True,
)
LAST_HOP = Problem(
    status=501,
    code="last_hop",
    error="http_request_denied",
    detail="Max-Forwards ends the request here, and this proxy answers neither TRACE nor OPTIONS itself.",
)
LOOP = Problem(
    status=508, code="loop_detected", error="proxy_loop_detected", detail="This request came through here already."
)
CLOSED = Problem(status=404, code="not_found", error="http_request_denied", detail="There is nothing here.")
NO_CREDENTIALS = Problem(
    status=401, code="not_authenticated", error="http_request_denied", detail="Send an access token."
)
KILLED = Problem(
    status=503,
    code="killed",
    error="destination_unavailable",
    detail="Writes are stopped: the kill switch is on and the data has moved.",
    retry=True,
)
RETIRED = Problem(
    status=503,
    code="retired",
    error="destination_unavailable",
    detail="This part is served elsewhere; this way leads to a copy that is not kept any more.",
    retry=True,
)
HOLD_FULL = Problem(
    status=503,
    code="hold_full",
    error="destination_unavailable",
    detail="Too many requests wait for data that is moving.",
    retry=True,
)
HELD_TOO_LONG = Problem(
    status=503,
    code="held_too_long",
    error="destination_unavailable",
    detail="The data is moving; try again.",
    retry=True,
)
FENCED = Problem(
    status=503,
    code="fenced",
    error="destination_unavailable",
    detail="The data has moved; the request was not carried out in full. Try again.",
    retry=True,
)
OVERLOADED = Problem(
    status=503,
    code="overloaded",
    error="connection_limit_reached",
    detail="Too many requests wait for a connection.",
    retry=True,
)
BREAKER_OPEN = Problem(
    status=503,
    code="breaker_open",
    error="destination_unavailable",
    detail="What serves this has failed too often; it is left alone for a moment.",
    retry=True,
)
NO_ENDPOINT = Problem(
    status=503,
    code="no_endpoint",
    error="destination_unavailable",
    detail="Nothing that serves this is well.",
    retry=True,
)
RATE_LIMITED = Problem(
    status=429, code="rate_limited", error="http_request_denied", detail="Too many requests.", retry=True
)
REFUSED = Problem(
    status=502, code="connection_refused", error="connection_refused", detail="The upstream could not be reached."
)
CONNECT_TIMEOUT = Problem(
    status=504, code="connection_timeout", error="connection_timeout", detail="The upstream could not be reached."
)
TERMINATED = Problem(
    status=502,
    code="connection_terminated",
    error="connection_terminated",
    detail="The upstream closed the connection before it answered.",
)
MALFORMED_ANSWER = Problem(
    status=502,
    code="malformed_answer",
    error="http_protocol_error",
    detail="The upstream's answer could not be read.",
)
NO_ANSWER = Problem(
    status=504, code="response_timeout", error="http_response_timeout", detail="The upstream did not answer in time."
)
TOO_MANY_CONNECTIONS = Problem(
    status=503,
    code="too_many_connections",
    error="connection_limit_reached",
    detail="Too many connections are open; try again.",
    retry=True,
    closes=True,
)
LEAVING = Problem(
    status=503,
    code="leaving",
    error="destination_unavailable",
    detail="This proxy is about to stop; try again.",
    retry=True,
    closes=True,
)


_UNKNOWN_METHOD = re.compile(rb"(?:\A|\r\n)[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [!-~]+ HTTP/1\.[01]\r\n")


def of_parser(error: Exception, data: bytes) -> Problem:
    """The problem of bytes that llhttp refuses: a method that it does not know is no mistake of the client's."""
    unknown = isinstance(error, httptools.HttpParserInvalidMethodError) and _UNKNOWN_METHOD.search(data)
    return NOT_IMPLEMENTED if unknown else MALFORMED


def reason_phrase(status: int) -> bytes:
    """The usual phrase of a status, empty for one without."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def problem_answer(
    problem: Problem,
    *,
    pseudonym: bytes,
    request_id: bytes,
    close: bool,
    head_only: bool,
    retry_after_s: int,
    detail: str = "",
) -> bytes:
    """The whole answer as bytes. `detail` replaces the problem's own sentence; it must not name anything internal."""
    phrase = reason_phrase(problem.status)
    body = json.dumps(
        {
            "type": f"urn:strangler:problem:{problem.code}",
            "title": phrase.decode(),
            "status": problem.status,
            "code": problem.code,
            "detail": detail or problem.detail,
            "request_id": request_id.decode("ascii"),
        }
    ).encode()
    lines = [
        b"HTTP/1.1 %d %b" % (problem.status, phrase),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"Proxy-Status: %b; error=%b" % (pseudonym, problem.error.encode()),
    ]
    if request_id:
        lines.append(b"X-Request-Id: " + request_id)
    if problem.retry:
        lines.append(b"Retry-After: %d" % retry_after_s)
    if problem.status == 401:
        lines.append(b"WWW-Authenticate: Bearer")
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)
