"""The admin API: credentials, deadlines, problem+json around the verbs. Listed in docs/reference/cli.md."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan, Receive, Scope, Send

from strangler_proxy.control import census, pause_verbs, retire, shadow_verbs, verbs
from strangler_proxy.control.access import MIN_TOKEN_CHARS, Access, Rights, is_cross_site
from strangler_proxy.control.bodies import MAX_WAIT_S
from strangler_proxy.control.metrics import ControlMetrics
from strangler_proxy.control.problems import CallRefused, problem
from strangler_proxy.control.standings import Standings
from strangler_proxy.control.verbs import Call, Verb
from strangler_proxy.core.errors import StoreUnavailable, StranglerError
from strangler_proxy.store import Store

CALL_DEADLINE_S = 10.0
MAX_BODY_BYTES = 8_000_000
ACTOR_HEADER = "Strangler-Actor"
_ACTOR = re.compile(r"[^\x20-\x7e]")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One line of the API. `writes` needs a token that may write."""

    method: str
    path: str
    verb: Verb
    writes: bool = False


ENDPOINTS = (
    Endpoint(method="GET", path="/v1/status", verb=verbs.show_status),
    Endpoint(method="GET", path="/v1/flags", verb=verbs.list_flags),
    Endpoint(method="GET", path="/v1/flags/{key}", verb=verbs.show_flag),
    Endpoint(method="GET", path="/v1/flags/{key}/history", verb=verbs.flag_history),
    Endpoint(method="POST", path="/v1/flags/{key}/flip", verb=verbs.flip_flag, writes=True),
    Endpoint(method="GET", path="/v1/flags/{key}/sync", verb=verbs.show_sync),
    Endpoint(method="POST", path="/v1/flags/{key}/sync", verb=verbs.switch_sync, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/verify", verb=verbs.verify_sync, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/promote", verb=verbs.promote_copy, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/rehearse", verb=verbs.rehearse_cutover, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/census", verb=census.take_census, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/pause", verb=pause_verbs.pause_sync, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/resume", verb=pause_verbs.resume_sync, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/sync/preflight", verb=pause_verbs.preflight_cutover, writes=True),
    Endpoint(method="GET", path="/v1/flags/{key}/retire", verb=retire.show_retired),
    Endpoint(method="POST", path="/v1/flags/{key}/retire", verb=retire.retire_flag, writes=True),
    Endpoint(method="GET", path="/v1/routes", verb=verbs.list_routes),
    Endpoint(method="GET", path="/v1/routes/{name}", verb=verbs.show_route),
    Endpoint(method="POST", path="/v1/why", verb=verbs.explain),
    Endpoint(method="POST", path="/v1/apply", verb=verbs.apply_files, writes=True),
    Endpoint(method="GET", path="/v1/acknowledgement", verb=verbs.show_acknowledgement),
    Endpoint(method="GET", path="/v1/operations", verb=verbs.list_operations),
    Endpoint(method="GET", path="/v1/operations/{id}", verb=verbs.show_operation),
    Endpoint(method="POST", path="/v1/operations/{id}/withdraw", verb=verbs.withdraw_operation, writes=True),
    Endpoint(method="GET", path="/v1/flags/{key}/shadow", verb=shadow_verbs.show_report),
    Endpoint(method="GET", path="/v1/flags/{key}/shadow/samples", verb=shadow_verbs.list_samples),
    Endpoint(method="GET", path="/v1/flags/{key}/shadow/tallies", verb=shadow_verbs.list_tallies),
    Endpoint(method="POST", path="/v1/flags/{key}/shadow/import", verb=shadow_verbs.import_lines, writes=True),
    Endpoint(method="GET", path="/v1/flags/{key}/shadow/rules", verb=shadow_verbs.list_rules),
    Endpoint(method="POST", path="/v1/flags/{key}/shadow/rules", verb=shadow_verbs.add_flag_rule, writes=True),
    Endpoint(method="POST", path="/v1/flags/{key}/shadow/rules/test", verb=shadow_verbs.try_flag_rule),
    Endpoint(
        method="POST",
        path="/v1/flags/{key}/shadow/rules/{rule}/expire",
        verb=shadow_verbs.expire_flag_rule,
        writes=True,
    ),
    Endpoint(method="GET", path="/v1/shadow/samples/{id}", verb=shadow_verbs.show_sample),
    Endpoint(method="GET", path="/v1/audit", verb=verbs.list_audit),
    Endpoint(method="GET", path="/v1/audit/verify", verb=verbs.verify_audit),
)


class Desk:
    """Takes calls one by one: who calls, may they, how long may it take, and what went wrong."""

    def __init__(self, store: Store, access: Access, *, deadline_s: float = CALL_DEADLINE_S) -> None:
        self.store = store
        self.metrics = ControlMetrics()
        self._standings = Standings(store)
        self._access = access
        self._deadline_s = deadline_s

    async def take(self, request: Request, choices: dict[str, Endpoint]) -> Response:
        """Answer one call of a path; `choices` are its endpoints by method."""
        began = time.monotonic()
        endpoint = choices.get("GET" if request.method == "HEAD" else request.method)
        name = endpoint.verb.__name__ if endpoint else "none"
        try:
            response = await self._answer(request, endpoint, choices)
        except StranglerError as error:
            response = problem(error)
            if isinstance(error, CallRefused):
                self.metrics.refused.labels(error.code).inc()
        seconds = time.monotonic() - began
        self.metrics.calls.labels(name, str(response.status_code)).inc()
        self.metrics.seconds.labels(name).observe(seconds)
        level = _log.info if endpoint is not None and endpoint.writes else _log.debug
        level(
            "control.call_answered",
            verb=name,
            status=response.status_code,
            seconds=round(seconds, 4),
            by=actor_of(request),
            client=client_of(request),
        )
        return response

    async def _answer(self, request: Request, endpoint: Endpoint | None, choices: dict[str, Endpoint]) -> Response:
        rights = self._admit(request)
        if endpoint is None:
            allow = ", ".join(sorted(choices))
            raise CallRefused(405, "method_not_allowed", f"this path takes {allow}", headers={"Allow": allow})
        if endpoint.writes and rights is not Rights.WRITE:
            raise CallRefused(403, "read_only", "this token may look, and change nothing: use the operator's token")
        body = await self._body(request) if request.method == "POST" else None
        call = Call(
            store=self.store,
            path=request.path_params,
            query=request.query_params,
            body=body,
            actor=actor_of(request),
            standings=self._standings,
        )
        limit = self._deadline_s + _wait_of(call)
        try:
            async with asyncio.timeout(limit):
                return JSONResponse(await endpoint.verb(call))
        except TimeoutError:
            raise CallRefused(
                504,
                "deadline",
                f"{endpoint.verb.__name__} took longer than {limit:g} s and was given up: look at what stands first",
                exit_code=5,
            ) from None

    def _admit(self, request: Request) -> Rights:
        if is_cross_site(request.headers):
            raise CallRefused(403, "cross_site", "calls from pages of another site are refused")
        address = client_of(request)
        wait = self._access.wait_s(address)
        if wait > 0:
            _log.warning("control.guesses_blocked", client=address)
            raise CallRefused(
                429,
                "too_many_guesses",
                f"too many wrong tokens from {address}: try again in {wait:.0f} s",
                headers={"Retry-After": str(int(wait) + 1)},
            )
        rights = self._access.rights(address, request.headers.get("authorization", ""))
        if rights is None:
            raise CallRefused(
                401,
                "not_authenticated",
                "the control plane does not know this token: set STRANGLER_CONTROL_TOKEN or ..._TOKEN_FILE",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return rights

    async def _body(self, request: Request) -> Any:
        data = bytearray()
        try:
            async with asyncio.timeout(self._deadline_s):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > MAX_BODY_BYTES:
                        raise CallRefused(413, "too_large", f"a call has at most {MAX_BODY_BYTES} bytes")
        except TimeoutError:
            raise CallRefused(408, "body_timeout", "the body did not arrive in time") from None
        try:
            return json.loads(bytes(data))
        except ValueError:
            raise CallRefused(400, "malformed_body", "the body is not JSON", exit_code=2) from None


def _wait_of(call: Call) -> float:
    """How long the caller is ready to wait for proxies, on top of the deadline."""
    asked = call.body.get("wait_s", 0) if isinstance(call.body, dict) else call.query.get("wait_s", 0)
    try:
        return min(max(0.0, float(asked)), MAX_WAIT_S)
    except (TypeError, ValueError):
        return 0.0


def actor_of(request: Request) -> str:
    """Who says to be calling: a name for the audit entry, not a proof."""
    return _ACTOR.sub("?", request.headers.get(ACTOR_HEADER, ""))[:100].strip() or "operator"


def client_of(request: Request) -> str:
    """The address that calls."""
    return request.client.host if request.client else "unknown"


def check_token(token: str, setting: str) -> None:
    """Refuse a token that can be guessed. Raises ValueError."""
    if len(token) < MIN_TOKEN_CHARS:
        raise ValueError(f"{setting} has {len(token)} characters: {MIN_TOKEN_CHARS} or more are needed")


def control_app(desk: Desk, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application: the verbs under `/v1/`, and health and metrics for the machine room (no token)."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    routes = [Route(path, _Calls(desk, choices)) for path, choices in by_path.items()]
    routes += [
        Route("/healthz", _healthz, methods=["GET"]),
        Route("/readyz", _ready(desk), methods=["GET"]),
        Route("/metrics", _metrics(desk), methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _unknown, Exception: _broken})


class _Calls:
    """The calls of one path as an ASGI application: every method arrives, so that 405 comes after the credentials."""

    def __init__(self, desk: Desk, choices: dict[str, Endpoint]) -> None:
        self._desk = desk
        self._choices = choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._desk.take(Request(scope, receive, send), self._choices)
        await response(scope, receive, send)


async def _healthz(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _ready(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(request: Request) -> Response:
        try:
            await desk.store.tables.revision()
        except StoreUnavailable as error:
            return PlainTextResponse(f"{error.message}\n", status_code=503)
        return PlainTextResponse("ready\n")

    return readyz


def _metrics(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        return Response(generate_latest(desk.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return metrics


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return problem(
        CallRefused(status, "not_found" if status == 404 else "refused", f"{request.url.path}: nothing here")
    )


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("control.call_failed", path=request.url.path, error=repr(error))
    return problem(CallRefused(500, "broken", "the control plane failed on this call; its log says why"))
