"""Calls of the API that pause a stream, resume it, and look at what is in a cutover's way."""

from __future__ import annotations

import structlog

from strangler_proxy.control import answers, sync
from strangler_proxy.control.answers import Json, answer
from strangler_proxy.control.bodies import ReasonBody
from strangler_proxy.control.verbs import Call
from strangler_proxy.store.documents import paused_document

_log = structlog.get_logger()


async def pause_sync(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/pause`."""
    body, key = call.read(ReasonBody), call.path["key"]
    paused = await sync.pause(call.store, key, by=call.actor, reason=body.reason)
    _log.info("sync.pause_requested", flag=key, by=call.actor)
    return answer(flag=key, paused=paused_document(paused))


async def resume_sync(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/resume`."""
    body, key = call.read(ReasonBody), call.path["key"]
    operation = await sync.resume(call.store, key, by=call.actor, reason=body.reason)
    _log.info("sync.resume_requested", flag=key, operation=operation.id, by=call.actor)
    return answer(flag=key, operation=answers.operation_answer(operation))


async def preflight_cutover(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/preflight`."""
    body, key = call.read(ReasonBody), call.path["key"]
    operation = await sync.preflight(call.store, key, by=call.actor, reason=body.reason)
    return answer(flag=key, operation=answers.operation_answer(operation))
