"""HTTP calls of the seams, through the proxy: bounded in time, safe in forks and threads, repeated only where harmless.

One `httpx.Client` per process, made on first use: connections must not be shared with a parent process.
"""

from __future__ import annotations

import os
import threading
import time

import httpx
from django.conf import settings

from monolith.config.problem import Answer, Problem
from strangler_proxy.contrib.context import outbound_headers

CONNECT_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 2.0
"""Shorter than what servers keep idle connections for: the next request does not meet a closed one."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
KEPT_HEADERS = ("Location", "Retry-After", "Idempotent-Replay")

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_GATEWAY = frozenset({502, 503, 504})

_lock = threading.Lock()
_clients: dict[tuple[int, str], httpx.Client] = {}


def client(base_url: str) -> httpx.Client:
    """This process's client for that server; its threads share the connections."""
    name = (os.getpid(), base_url)
    with _lock:
        found = _clients.get(name)
        if found is None:
            found = _clients[name] = httpx.Client(
                base_url=base_url,
                timeout=httpx.Timeout(5.0, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=KEEP_ALIVE_S),
                follow_redirects=False,
                trust_env=False,
            )
        return found


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it at the moment of the fork


os.register_at_fork(after_in_child=_renew_lock)


def call(
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    token: str = "",
    key: str = "",
    repeatable: bool = False,
    budget_s: float | None = None,
) -> Answer:
    """Call the proxy and give its answer, errors included.

    A request that never left (no connection) is sent again; one that may have been done only when `repeatable`:
    its idempotency key, or its nature, makes a second one harmless. Then also 502, 503 and 504 are tried again,
    after what `Retry-After` asks. All within `budget_s` seconds (default `SHOP_SEAM_TIMEOUT_S`).
    Raises `Problem` `service_unavailable` when there is no answer.
    """
    deadline = time.monotonic() + (settings.SHOP_SEAM_TIMEOUT_S if budget_s is None else budget_s)
    headers = _headers(body, token, key)
    pause_s = FIRST_PAUSE_S
    while True:
        left_s = max(0.1, deadline - time.monotonic())
        try:
            response = client(settings.ENVIRONMENT.proxy_url).request(
                method,
                path,
                content=body,
                headers=headers,
                timeout=httpx.Timeout(left_s, connect=min(CONNECT_TIMEOUT_S, left_s)),
            )
        except httpx.TransportError as error:
            if not (repeatable or isinstance(error, _UNSENT)) or time.monotonic() + pause_s >= deadline:
                raise Problem("service_unavailable") from error
        else:
            pause_s = max(pause_s, _asked_pause_s(response))
            again = repeatable and response.status_code in _GATEWAY
            if not again or time.monotonic() + pause_s >= deadline:
                return _answer(response)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _headers(body: bytes | None, token: str, key: str) -> dict[str, str]:
    headers = {"Accept": "application/json", **outbound_headers()}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if key:
        headers["Idempotency-Key"] = key
    return headers


def _asked_pause_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _answer(response: httpx.Response) -> Answer:
    kept = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return Answer(status=response.status_code, text=response.text, headers=kept)
