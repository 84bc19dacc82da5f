"""Outgoing HTTP calls of a marked request: noted, and in a mirrored request answered instead of made.

`install_http` wraps the transports of httpx (sync and async), the adapter of requests, and refuses what goes out
through `http.client` (urllib and others) in a mirrored request, since it cannot be answered there. A mirrored call
is answered from the calls that the other side recorded, see `answer_for`; where none fits it gets status 599 and the
effect says so. It is never made, whatever happens.

No library is needed: those that are there are wrapped. Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import functools
import http.client
import importlib
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured, current

NOT_RECORDED_STATUS = 599
NOT_RECORDED = "effect not recorded"
BODY_BYTES = 65_536
"""Of a call's body, and of its answer, that is noted and answered from."""

_MARK = "_strangler_captures"
_KEPT_FIELDS = ("idempotency-key", "content-type")
_FAILED = 0
_CUT_OFF = frozenset({"CancelledError", "TimeoutError"})


def install_http() -> None:
    """Wrap what is installed of httpx, requests and http.client. Safe to repeat."""
    httpx = _library("httpx")
    if httpx is not None:
        _wrap(httpx.HTTPTransport, "handle_request", functools.partial(_httpx_call, httpx))
        _wrap(httpx.AsyncHTTPTransport, "handle_async_request", functools.partial(_httpx_async_call, httpx))
    requests = _library("requests")
    if requests is not None:
        _wrap(requests.adapters.HTTPAdapter, "send", functools.partial(_requests_call, requests))
    _wrap(http.client.HTTPConnection, "putrequest", _refuse_call)


def installed() -> bool:
    """Are the wrappers in place?"""
    return bool(getattr(http.client.HTTPConnection.putrequest, _MARK, False))


def begun(capture: Capture, method: str, url: str, fields: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Note a call before it is made or answered; the detail, to be completed by `completed` or `failed`."""
    said = {name.lower(): value for name, value in fields.items()}
    detail: dict[str, Any] = {
        "method": method.upper(),
        "url": url,
        "body": readable(body),
        "status": None,
        "answer": None,
    }
    if said.get("idempotency-key"):
        detail["idempotency_key"] = said["idempotency-key"]
    noted: dict[str, Any] = capture.note("call", detail)["detail"]
    return noted


def completed(detail: dict[str, Any], status: int, content_type: str, body: bytes) -> None:
    """The call of this detail was answered."""
    detail.update(status=status, answer=readable(body), answer_type=content_type)


def failed(detail: dict[str, Any], error: BaseException) -> None:
    """The call of this detail had no answer."""
    detail.update(status=_FAILED, answer={"error": type(error).__name__})


def answer_for(capture: Capture, detail: dict[str, Any]) -> dict[str, Any]:
    """The recorded call that answers this one: same method and path, best the same body and key too.

    Ids in a path may differ between the sides, so segments that look like one need not be equal. Completes `detail`;
    `status` 0 means that the other side's call failed, 599 that it made none that fits.
    """
    found = capture.take_recorded("call", lambda other: fit(detail, other))
    if found is None:
        detail.update(status=NOT_RECORDED_STATUS, answer=NOT_RECORDED, answer_type="text/plain")
    else:
        for name in ("status", "answer", "answer_type"):
            if name in found:
                detail[name] = found[name]
    return detail


def fit(call: Mapping[str, Any], other: Any) -> int:
    """How well a recorded call fits: 0 not at all.

    >>> fit({"method": "POST", "url": "http://a/v1/charges/17?x=1", "body": {"a": 1}},
    ...     {"method": "POST", "url": "http://b/v1/charges/18", "body": {"a": 1}})
    5
    """
    if not isinstance(other, Mapping) or other.get("method") != call["method"]:
        return 0
    here, there = urlsplit(str(call["url"])), urlsplit(str(other.get("url", "")))
    ours, theirs = here.path.split("/"), there.path.split("/")
    if len(ours) != len(theirs):
        return 0
    if any(one != two and not (_is_id(one) and _is_id(two)) for one, two in zip(ours, theirs)):  # noqa: B905  (3.9)
        return 0
    key = call.get("idempotency_key")
    return (
        1
        + 16 * (key is not None and key == other.get("idempotency_key"))
        + 8 * (ours == theirs)
        + 4 * (call.get("body") == other.get("body"))
        + 2 * (here.query == there.query and here.netloc == there.netloc)
    )


def readable(body: bytes) -> Any:
    """A body as JSON where it is (and says the same when it is written again), else as text; cut to 64 KB.

    >>> readable(b'{"a": [1]}'), readable(b"a=1"), readable(b'{"a": 1.10}')
    ({'a': [1]}, 'a=1', '{"a": 1.10}')
    """
    if not body:
        return ""
    text = body[:BODY_BYTES].decode("utf-8", "replace")
    if len(body) > BODY_BYTES:
        return f"{text} ... ({len(body)} bytes)"
    try:
        value = json.loads(text, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (dict, list)) else text


def body_of(answer: Any) -> bytes:
    """The bytes that `readable` was made of, as far as JSON says."""
    return answer.encode() if isinstance(answer, str) else json.dumps(answer, separators=(",", ":")).encode()


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} would be rounded")


def _is_id(segment: str) -> bool:
    return any(character.isdigit() for character in segment) or len(segment) >= 20


def _library(name: str) -> Any:
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None


def _wrap(owner: Any, name: str, how: Any) -> None:
    native = getattr(owner, name)
    if getattr(native, _MARK, False):
        return

    @functools.wraps(native)
    def captured(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None:
            return native(self, *args, **kwargs)
        return how(capture, native, self, *args, **kwargs)

    setattr(captured, _MARK, True)
    setattr(owner, name, captured)


def _refuse_call(
    capture: Capture, native: Any, connection: Any, method: str, url: str, *args: Any, **kwargs: Any
) -> Any:
    if not capture.mirrors:
        return native(connection, method, url, *args, **kwargs)
    answer_for(capture, begun(capture, method, f"http://{connection.host}:{connection.port}{url}", {}, b""))
    raise NotCaptured("a call through http.client; use httpx or requests, or keep this code out of shadow mode")


def _httpx_call(httpx: Any, capture: Capture, native: Any, transport: Any, request: Any) -> Any:
    body = _bytes_of(request.read(), request)
    detail = begun(capture, request.method, str(request.url), request.headers, body)
    if capture.mirrors:
        return _httpx_answer(httpx, answer_for(capture, detail), request)
    try:
        response = native(transport, request)
    except BaseException as error:
        failed(detail, error)
        raise
    response.stream = _tee(httpx, response, detail)
    return response


async def _httpx_async_call(httpx: Any, capture: Capture, native: Any, transport: Any, request: Any) -> Any:
    body = _bytes_of(await request.aread(), request)
    detail = begun(capture, request.method, str(request.url), request.headers, body)
    if capture.mirrors:
        return _httpx_answer(httpx, answer_for(capture, detail), request)
    try:
        response = await native(transport, request)
    except BaseException as error:
        failed(detail, error)
        raise
    response.stream = _async_tee(httpx, response, detail)
    return response


def _bytes_of(body: bytes, request: Any) -> bytes:
    return body if not request.headers.get("content-encoding") else b""


def _httpx_answer(httpx: Any, detail: Mapping[str, Any], request: Any) -> Any:
    if not detail["status"]:
        answer = detail.get("answer")
        name = str(answer.get("error", "")) if isinstance(answer, Mapping) else ""
        error = httpx.ReadTimeout if name in _CUT_OFF else getattr(httpx, name, None)
        if not (isinstance(error, type) and issubclass(error, httpx.TransportError)):
            error = httpx.ConnectError
        raise error("as it was on the other side", request=request)
    headers = {"Content-Type": detail.get("answer_type") or "application/octet-stream"}
    return httpx.Response(int(detail["status"]), headers=headers, content=body_of(detail["answer"]), request=request)


class _Kept:
    """The beginning of an answer's body, kept while it is read, and noted at its end."""

    def __init__(self, response: Any, detail: dict[str, Any]) -> None:
        self._response = response
        self._detail = detail
        self._body = bytearray()
        completed(detail, response.status_code, response.headers.get("content-type", ""), b"")

    def take(self, chunk: bytes) -> bytes:
        if len(self._body) <= BODY_BYTES:
            self._body += chunk
        return chunk

    def done(self) -> None:
        headers = self._response.headers
        body = _decoded(bytes(self._body), headers.get("content-encoding", ""))
        completed(self._detail, self._response.status_code, headers.get("content-type", ""), body)


def _decoded(body: bytes, coding: str) -> bytes:
    if coding.strip().lower() not in ("gzip", "deflate"):
        return body
    import zlib

    try:
        return zlib.decompressobj(wbits=47 if coding.strip().lower() == "gzip" else 15).decompress(body, BODY_BYTES + 1)
    except zlib.error:
        return b""


def _tee(httpx: Any, response: Any, detail: dict[str, Any]) -> Any:
    kept, stream = _Kept(response, detail), response.stream

    class Tee(httpx.SyncByteStream):  # type: ignore[misc]  # httpx is Any here
        def __iter__(self) -> Iterator[bytes]:
            for chunk in stream:
                yield kept.take(chunk)
            kept.done()

        def close(self) -> None:
            stream.close()

    return Tee()


def _async_tee(httpx: Any, response: Any, detail: dict[str, Any]) -> Any:
    kept, stream = _Kept(response, detail), response.stream

    class AsyncTee(httpx.AsyncByteStream):  # type: ignore[misc]  # httpx is Any here
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in stream:
                yield kept.take(chunk)
            kept.done()

        async def aclose(self) -> None:
            await stream.aclose()

    return AsyncTee()


def _requests_call(
    requests: Any, capture: Capture, native: Any, adapter: Any, request: Any, *args: Any, **kw: Any
) -> Any:
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    detail = begun(capture, request.method, request.url, request.headers, body)
    if not capture.mirrors:
        try:
            response = native(adapter, request, *args, **kw)
            if not kw.get("stream"):
                completed(detail, response.status_code, response.headers.get("content-type", ""), response.content)
            else:
                completed(detail, response.status_code, response.headers.get("content-type", ""), b"")
        except BaseException as error:
            failed(detail, error)
            raise
        return response
    answer_for(capture, detail)
    if not detail["status"]:
        raise requests.exceptions.ConnectionError("as it was on the other side", request=request)
    response = requests.Response()
    response.status_code, response.url, response.request = int(detail["status"]), request.url, request
    response.headers["Content-Type"] = detail.get("answer_type") or "application/octet-stream"
    response._content = body_of(detail["answer"])
    return response
