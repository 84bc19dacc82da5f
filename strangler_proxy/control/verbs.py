"""Each call of the API: its body parsed, the verb asked, the answer as JSON."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from strangler_proxy.control import answers, sync
from strangler_proxy.control.acknowledge import acknowledged
from strangler_proxy.control.answers import Json, answer
from strangler_proxy.control.apply import apply
from strangler_proxy.control.bodies import (
    MAX_WAIT_S,
    ApplyBody,
    FlipBody,
    PromoteBody,
    ReasonBody,
    SyncBody,
    VerifyBody,
    WhyBody,
)
from strangler_proxy.control.flip import flip
from strangler_proxy.control.known import flag_of, route_of
from strangler_proxy.control.problems import CallRefused, bad_body
from strangler_proxy.control.standings import Standings
from strangler_proxy.control.status import status
from strangler_proxy.control.why import Asked, why
from strangler_proxy.core.errors import UnknownName
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan import SourceFile, load_plans
from strangler_proxy.store import Store

B = TypeVar("B", bound=BaseModel)
Verb = Callable[["Call"], Awaitable[Json]]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that is allowed: path parameters, query, JSON body, and who makes it."""

    store: Store
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    actor: str
    standings: Standings

    def read(self, kind: type[B]) -> B:
        """The body as values; raises CallRefused with all wrong fields."""
        try:
            return kind.model_validate(self.body)
        except ValidationError as error:
            raise bad_body(error) from None

    def number(self, name: str, default: float, high: float) -> float:
        """A number of the query, 0..high."""
        text = self.query.get(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:
            raise CallRefused(400, "bad_query", f'{name} "{text}" is not a number of 0..{high:g}', exit_code=2)
        return value


async def show_status(call: Call) -> Json:
    """`GET /v1/status`."""
    return answers.status_answer(await status(call.store, call.query.get("flag"), standings=call.standings))


async def list_flags(call: Call) -> Json:
    """`GET /v1/flags`."""
    table = await call.store.records.table()
    return answer(revision=table.revision, flags=[answers.flag_answer(flag) for flag in table.flags.values()])


async def show_flag(call: Call) -> Json:
    """`GET /v1/flags/KEY`: the flag's part of the status, and its routes."""
    found = answers.status_answer(await status(call.store, call.path["key"], standings=call.standings))
    routes = answers.routes_answer(await call.store.records.table())
    mine = [route for route in routes if route["flag"] == call.path["key"]]
    return answer(revision=found["revision"], flag=found["flags"][0], routes=mine, acknowledged=found["acknowledged"])


async def flag_history(call: Call) -> Json:
    """`GET /v1/flags/KEY/history`."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    entries = await call.store.records.history(flag.key, int(call.number("limit", 20, 1000)))
    return answer(flag=flag.key, entries=[answers.entry_answer(entry) for entry in entries])


async def list_routes(call: Call) -> Json:
    """`GET /v1/routes`."""
    table = await call.store.records.table()
    return answer(
        revision=table.revision, routes=answers.routes_answer(table), default_cluster=table.default_cluster.name
    )


async def show_route(call: Call) -> Json:
    """`GET /v1/routes/NAME`."""
    table = await call.store.records.table()
    name = route_of(table, call.path["name"]).name
    return answer(
        revision=table.revision, route=next(route for route in answers.routes_answer(table) if route["name"] == name)
    )


async def explain(call: Call) -> Json:
    """`POST /v1/why`."""
    body = call.read(WhyBody)
    table = await call.store.records.table()
    asked = Asked(
        method=body.method.upper(),
        url=body.url,
        user=body.user,
        headers=body.headers,
        override=None if body.override is None else Origin(body.override),
        killed=body.killed,
        own_write=body.own_write,
    )
    return answers.explained_answer(table, why(table, asked))


async def apply_files(call: Call) -> Json:
    """`POST /v1/apply`."""
    body = call.read(ApplyBody)
    plans = load_plans([SourceFile(name=file.name, text=file.text) for file in body.files], body.environment)
    done = await apply(
        call.store, plans, by=call.actor, reason=body.reason, if_revision=body.if_revision, dry_run=body.dry_run
    )
    changed = done.revision != done.revision_before
    if changed:
        _log.info("table.applied", revision=done.revision, by=call.actor, changes=len(done.changes))
    wait = changed and body.wait_s > 0
    found = await acknowledged(call.store.flags, done.revision, wait_s=body.wait_s) if wait else None
    return answers.applied_answer(done, found)


async def flip_flag(call: Call) -> Json:
    """`POST /v1/flags/KEY/flip`."""
    body, began = call.read(FlipBody), time.monotonic()
    done = await flip(
        call.store,
        call.path["key"],
        body.stage,
        weight=body.weight,
        by=call.actor,
        reason=body.reason,
        if_revision=body.if_revision,
        dry_run=body.dry_run,
        patience_s=0.0 if body.dry_run else body.wait_s / 2,
    )
    if done.changed:
        _log.info(
            "flag.cutover_requested" if done.operation else "flag.flipped",
            flag=done.before.key,
            stage=done.after.stage.value,
            weight=done.after.weight,
            revision=done.revision,
            by=call.actor,
        )
    wait = body.wait_s > 0 and done.operation is None and not done.dry_run
    left_s = body.wait_s - (time.monotonic() - began)
    found = await acknowledged(call.store.flags, done.revision, wait_s=left_s) if wait else None
    return answers.flipped_answer(done, found)


async def show_acknowledgement(call: Call) -> Json:
    """`GET /v1/acknowledgement?revision=N&wait_s=S`; without a revision: the current one."""
    given = call.query.get("revision")
    revision = await call.store.tables.revision() if given is None else int(call.number("revision", 0, 2**62))
    found = await acknowledged(call.store.flags, revision, wait_s=call.number("wait_s", 0, MAX_WAIT_S))
    return answer(**answers.acknowledgement_answer(found))


async def switch_sync(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync`."""
    body, key = call.read(SyncBody), call.path["key"]
    if body.running:
        operation = await sync.start(call.store, key, by=call.actor, reason=body.reason, replace=body.replace)
    else:
        confirmed = body.confirm == key
        operation = await sync.stop(call.store, key, confirmed=confirmed, by=call.actor, reason=body.reason)
    if operation is not None:
        _log.info("sync.requested", flag=key, running=body.running, operation=operation.id, by=call.actor)
    return answer(flag=key, operation=None if operation is None else answers.operation_answer(operation))


async def verify_sync(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/verify`."""
    body, key = call.read(VerifyBody), call.path["key"]
    operation = await sync.verify(call.store, key, repair=body.repair, by=call.actor, reason=body.reason)
    return answer(flag=key, operation=answers.operation_answer(operation))


async def rehearse_cutover(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/rehearse`."""
    body, key = call.read(ReasonBody), call.path["key"]
    operation = await sync.rehearse(call.store, key, by=call.actor, reason=body.reason)
    _log.info("flag.rehearsal_requested", flag=key, operation=operation.id, by=call.actor)
    return answer(flag=key, operation=answers.operation_answer(operation))


async def promote_copy(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/promote`."""
    body, key = call.read(PromoteBody), call.path["key"]
    operation = await sync.promote_copy(
        call.store, key, accept_loss=body.accept_loss, confirmed=body.confirm == key, by=call.actor, reason=body.reason
    )
    _log.warning("sync.promotion_requested", flag=key, operation=operation.id, by=call.actor)
    return answer(flag=key, operation=answers.operation_answer(operation))


async def show_sync(call: Call) -> Json:
    """`GET /v1/flags/KEY/sync`."""
    found = answers.status_answer(await status(call.store, call.path["key"]))["flags"][0]
    return answer(
        flag=found["key"], stage=found["stage"], owner=found["owner"], owner_epoch=found["owner_epoch"],
        stream=found["stream"], operations=found["operations"],
    )  # fmt: skip


async def list_operations(call: Call) -> Json:
    """`GET /v1/operations`."""
    limit = int(call.number("limit", 20, 1000))
    found = await call.store.records.operations(call.query.get("flag"), limit)
    return answer(operations=[answers.operation_answer(each) for each in found])


async def show_operation(call: Call) -> Json:
    """`GET /v1/operations/ID`."""
    flag = call.query.get("flag")
    for each in await call.store.records.operations(flag, 1000 if flag is None else 50):
        if str(each.id) == call.path["id"]:
            return answer(operation=answers.operation_answer(each))
    raise UnknownName(f'there is no operation "{call.path["id"]}"', next_command="strangler watch")


async def withdraw_operation(call: Call) -> Json:
    """`POST /v1/operations/ID/withdraw`."""
    body, number = call.read(ReasonBody), call.path["id"]
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise UnknownName(f'there is no operation "{number}"', next_command="strangler operation list")
    operation = await call.store.switches.withdraw(int(number), by=call.actor, reason=body.reason)
    _log.info("operation.withdrawn", operation=operation.id, kind=operation.kind, flag=operation.flag, by=call.actor)
    return answer(operation=answers.operation_answer(operation))


async def list_audit(call: Call) -> Json:
    """`GET /v1/audit`."""
    entries = await call.store.records.history(call.query.get("flag"), int(call.number("limit", 50, 1000)))
    return answer(entries=[answers.entry_answer(entry) for entry in entries])


async def verify_audit(call: Call) -> Json:
    """`GET /v1/audit/verify`."""
    return answers.verdict_answer(await call.store.records.verify_audit())
