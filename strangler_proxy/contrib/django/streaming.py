"""A streamed answer runs its code after the view has returned: the fence has to be looked for there too."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import FileResponse
from django.http.response import HttpResponseBase

from strangler_proxy.contrib.record import FenceRecord, recording
from strangler_proxy.contrib.refusal import FencedAfterHeaders

logger = logging.getLogger("strangler.fence")

_END = object()


def guard(response: Any, record: FenceRecord, *, wait_for_first: bool) -> Any:
    """Record while the body is made; with `wait_for_first` its first chunk is made now."""
    if isinstance(response, FileResponse):
        return response
    if response.is_async:
        response.streaming_content = _guarded_async(response.streaming_content, record)
        return response
    chunks = _guarded(iter(response.streaming_content), record)
    if wait_for_first:
        chunks = _after_first(chunks, record)
    response.streaming_content = chunks
    return response


async def guard_async(response: Any, record: FenceRecord, *, wait_for_first: bool) -> Any:
    """`guard` under ASGI."""
    if isinstance(response, FileResponse):
        return response
    if not response.is_async:
        return await sync_to_async(guard, thread_sensitive=True)(response, record, wait_for_first=wait_for_first)
    chunks = _guarded_async(response.streaming_content, record)
    if wait_for_first:
        first: Any = _END
        try:
            async for chunk in chunks:
                first = chunk
                break
        except FencedAfterHeaders:
            pass
        except Exception:
            if record.met is None:
                raise
        response.streaming_content = _prefixed_async(first, chunks)
    else:
        response.streaming_content = chunks
    return response


def discard(response: HttpResponseBase) -> None:
    """Let go of what an answer that is not sent holds open, without ending the request as `close()` would."""
    holder: Any = response
    for closer in holder._resource_closers:
        try:
            closer()
        except Exception:
            logger.warning("fence.discard_failed", exc_info=True)


def _guarded(chunks: Iterator[Any], record: FenceRecord) -> Iterator[Any]:
    while True:
        with recording(record):
            chunk = next(chunks, _END)
        if record.met is not None:
            raise FencedAfterHeaders("the fence was met while the answer was being streamed")
        if chunk is _END:
            return
        yield chunk


def _after_first(chunks: Iterator[Any], record: FenceRecord) -> Iterator[Any]:
    try:
        first = next(chunks, _END)
    except Exception:
        if record.met is None:
            raise
        first = _END
    return _prefixed(first, chunks)


def _prefixed(first: Any, chunks: Iterator[Any]) -> Iterator[Any]:
    if first is not _END:
        yield first
        yield from chunks


async def _guarded_async(chunks: AsyncIterator[Any], record: FenceRecord) -> AsyncIterator[Any]:
    iterator = chunks.__aiter__()
    while True:
        with recording(record):  # around each step: a generator's steps may run in different contexts
            try:
                chunk = await iterator.__anext__()
            except StopAsyncIteration:
                chunk = _END
        if record.met is not None:
            raise FencedAfterHeaders("the fence was met while the answer was being streamed")
        if chunk is _END:
            return
        yield chunk


async def _prefixed_async(first: Any, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is not _END:
        yield first
        async for chunk in chunks:
            yield chunk
