"""The verb `sync census`: ask a worker who still reads or writes a flag's tables, and set how that is counted."""

from __future__ import annotations

import datetime as dt
import json
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from strangler_proxy.control.answers import Json, answer, operation_answer
from strangler_proxy.control.known import flag_of
from strangler_proxy.control.problems import CallRefused
from strangler_proxy.control.verbs import Call
from strangler_proxy.core.census import Mode
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.stage import Origin

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 200

_log = structlog.get_logger()


class CensusBody(BaseModel):
    """`POST /v1/flags/KEY/sync/census`. Without `mode`, `triggers` and `allow` nothing is changed.

    `confirm`: the flag's key, where refusing would break code that reads now. `sample_s`: how long to watch sessions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    side: Literal["monolith", "extracted"] | None = None
    mode: Literal["off", "log", "refuse"] | None = None
    triggers: bool | None = None
    allow: list[str] | None = Field(None, max_length=MAX_PATTERNS)
    since: str | None = Field(None, max_length=40)
    sample_s: float = Field(0.0, ge=0.0, le=600.0)
    confirm: str = Field("", max_length=100)
    reason: str = Field("", max_length=500)


async def take_census(call: Call) -> Json:
    """`POST /v1/flags/KEY/sync/census`."""
    body, key = call.read(CensusBody), call.path["key"]
    flag = flag_of(await call.store.records.table(), key)
    _allowed(flag, body)
    operation = await call.store.switches.request(
        "sync_census", key, _arguments(body, key), by=call.actor, reason=body.reason
    )
    if body.mode is not None:
        _log.info("sync.census_set", flag=key, mode=body.mode, side=body.side, operation=operation.id, by=call.actor)
    return answer(flag=key, operation=operation_answer(operation))


def _allowed(flag: Flag, body: CensusBody) -> None:
    if not flag.owns_data:
        raise GateRefused(
            f'flag "{flag.key}" owns no data: there are no tables to look at',
            next_command=f"strangler flag show {flag.key}",
        )
    if body.mode == Mode.REFUSE.value and body.side is None:
        raise CallRefused(400, "bad_census", "refusing needs a side: --side monolith or --side extracted", exit_code=2)
    if body.mode == Mode.REFUSE.value and body.side == flag.owner.value:
        raise GateRefused(
            f"{body.side} owns the rows: its own code has to read them, so nothing is refused there",
            next_command=f"strangler sync census {flag.key} --mode refuse --side {flag.owner.other.value}",
        )
    for pattern in body.allow or ():
        if len(pattern) > MAX_PATTERN_CHARS:
            raise CallRefused(400, "bad_census", f"a pattern has at most {MAX_PATTERN_CHARS} characters", exit_code=2)


def _arguments(body: CensusBody, key: str) -> dict[str, str]:
    given = {
        "side": "" if body.side is None else Origin(body.side).value,
        "mode": body.mode or "",
        "triggers": "" if body.triggers is None else "yes" if body.triggers else "no",
        "allow": "" if body.allow is None else json.dumps([each for each in body.allow if each]),
        "since": "" if body.since is None else _moment(body.since),
        "sample_s": f"{body.sample_s:g}" if body.sample_s else "",
        "confirmed": "yes" if body.confirm == key else "",
    }
    return {name: value for name, value in given.items() if value}


def _moment(text: str) -> str:
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise CallRefused(400, "bad_census", f'since "{text}" is no time with an offset (ISO 8601)', exit_code=2)
    return when.isoformat()
