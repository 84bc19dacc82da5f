"""Composition root of the control plane: settings, store, application, server."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette

from strangler_proxy import logging
from strangler_proxy.control.access import Access
from strangler_proxy.control.api import Desk, check_token, control_app
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.settings import ControlSettings
from strangler_proxy.store import migrate, open_store

_log = structlog.get_logger()


def run(settings: ControlSettings) -> None:
    """Serve until a signal. Raises DeclarationError for settings that do not fit, OSError where the port is taken."""
    logging.configure("strangler-control")
    host, port = _address(settings.control_listen)
    app = build(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=65_536,
        limit_concurrency=200,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        uvicorn.Server(config).run(sockets=[listening])


def build(settings: ControlSettings) -> Starlette:
    """The application with a store of its own."""
    token, viewer = _tokens(settings)
    store = open_store(settings.database_url, application="strangler-control")
    desk = Desk(store, Access(token, viewer, now=time.monotonic))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        _log.info("control.started", listen=settings.control_listen)
        try:
            yield
        finally:
            await store.close()
            _log.info("control.stopped")

    return control_app(desk, lifespan=lifespan)


def migrate_only(settings: ControlSettings) -> list[str]:
    """Bring the control database's schema up to date; the names of what was applied now. Raises StoreUnavailable."""
    return migrate(settings.database_url)


def _tokens(settings: ControlSettings) -> tuple[str, str | None]:
    problems: list[str] = []
    token = _secret("STRANGLER_CONTROL_TOKEN", settings.control_token, settings.control_token_file, problems)
    viewer = _secret("STRANGLER_VIEWER_TOKEN", settings.viewer_token, settings.viewer_token_file, problems)
    if token is None and not problems:
        problems.append("STRANGLER_CONTROL_TOKEN or STRANGLER_CONTROL_TOKEN_FILE is not set: nobody could call")
    if token is not None and token == viewer:
        problems.append("STRANGLER_VIEWER_TOKEN is the same as STRANGLER_CONTROL_TOKEN: it would be able to write")
    if problems or token is None:
        raise DeclarationError(problems)
    return token, viewer


def _secret(setting: str, value: SecretStr | None, file: Path | None, problems: list[str]) -> str | None:
    try:
        found = value.get_secret_value() if value is not None else None if file is None else file.read_text().strip()
        if found is not None:
            check_token(found, setting)
    except (OSError, ValueError) as error:
        problems.append(str(error) if isinstance(error, ValueError) else f"{setting}_FILE: {error}")
        return None
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 <= int(port) < 65_536:
        raise DeclarationError([f'STRANGLER_CONTROL_LISTEN: "{text}" is not HOST:PORT'])
    return host.strip("[]") or "0.0.0.0", int(port)
