"""`strangler serve`: run a proxy."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from strangler_proxy.settings import ServeSettings, load

PROXY = "What it serves"
_DRAIN_S = 2.5
SHADOW = "Shadow mode: the same requests to a candidate, compared"
LIMITS = "Limits and time-outs (default: STRANGLER_..., see docs/reference/settings.md)"


def serve(
    listen: Annotated[
        str | None,
        typer.Option("--listen", "-l", metavar="HOST:PORT", help="Where clients connect.", rich_help_panel=PROXY),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            "-u",
            metavar="URL",
            help="Where everything goes that no route matches; all there is without a database.",
            rich_help_panel=PROXY,
        ),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", metavar="URL", help="Control database with the flag table.", rich_help_panel=PROXY
        ),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            "--candidate",
            "-c",
            metavar="URL",
            help="Who gets copies of what goes to --upstream; both answers are compared. Without a database.",
            rich_help_panel=SHADOW,
        ),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            "--shadow", metavar="PERCENT", help="Share of requests that are mirrored.", rich_help_panel=SHADOW
        ),
    ] = None,
    shadow_sticky: Annotated[
        bool | None,
        typer.Option(
            "--shadow-sticky/--shadow-drawn",
            help="Mirror the same subjects always, or draw for each request.",
            rich_help_panel=SHADOW,
        ),
    ] = None,
    evidence: Annotated[
        str | None,
        typer.Option(
            "--evidence",
            metavar="PATH|URL",
            help="Where evidence is kept [strangler-shadow.sqlite, or the control database].",
            rich_help_panel=SHADOW,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write the report there at the end: .json or .html.",
            rich_help_panel=SHADOW,
        ),
    ] = None,
    mirror_queue: Annotated[
        int | None,
        typer.Option("--mirror-queue", help="Copies that wait; more are dropped.", rich_help_panel=SHADOW),
    ] = None,
    mirror_memory: Annotated[
        int | None,
        typer.Option(
            "--mirror-memory", metavar="BYTES", help="Bytes that copies hold together.", rich_help_panel=SHADOW
        ),
    ] = None,
    mirror_connections: Annotated[
        int | None,
        typer.Option("--mirror-connections", help="Copies under way to a cluster at once.", rich_help_panel=SHADOW),
    ] = None,
    mirror_deadline: Annotated[
        float | None,
        typer.Option("--mirror-deadline", help="Seconds for one copy.", rich_help_panel=SHADOW),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", help="Processes that share the port.", rich_help_panel=PROXY)
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", help="Folder of the table file and the kill files.", rich_help_panel=PROXY),
    ] = None,
    admin_listen: Annotated[
        str | None,
        typer.Option(
            "--admin-listen",
            metavar="HOST:PORT",
            help="Health and metrics; process K of --workers has port + K.",
            rich_help_panel=PROXY,
        ),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            "--trust",
            metavar="CIDR",
            help="A proxy in front of this one, whose X-Forwarded-* is appended to. May be repeated.",
            rich_help_panel=PROXY,
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate",
            help="PEM file of the certificate chain: clients then speak TLS.",
            rich_help_panel=PROXY,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key",
            help="PEM file of its key. Both are read anew when they change, and on SIGHUP.",
            rich_help_panel=PROXY,
        ),
    ] = None,
    connect_timeout: Annotated[
        float | None,
        typer.Option("--connect-timeout", help="Seconds to connect to an upstream.", rich_help_panel=LIMITS),
    ] = None,
    first_byte_timeout: Annotated[
        float | None,
        typer.Option("--first-byte-timeout", help="Seconds until the head of an answer.", rich_help_panel=LIMITS),
    ] = None,
    idle_timeout: Annotated[
        float | None,
        typer.Option("--idle-timeout", help="Seconds without a byte, either side.", rich_help_panel=LIMITS),
    ] = None,
    total_timeout: Annotated[
        float | None, typer.Option("--total-timeout", help="Seconds for a whole request.", rich_help_panel=LIMITS)
    ] = None,
    header_timeout: Annotated[
        float | None,
        typer.Option("--header-timeout", help="Seconds for a request's head to arrive.", rich_help_panel=LIMITS),
    ] = None,
    keep_alive: Annotated[
        float | None,
        typer.Option("--keep-alive", help="Seconds that a client's connection may be idle.", rich_help_panel=LIMITS),
    ] = None,
    websocket_idle: Annotated[
        float | None,
        typer.Option("--websocket-idle", help="Seconds that a WebSocket may be silent.", rich_help_panel=LIMITS),
    ] = None,
    hold_timeout: Annotated[
        float | None,
        typer.Option("--hold-timeout", help="Seconds a request is held during a cutover.", rich_help_panel=LIMITS),
    ] = None,
    max_header_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-header",
            metavar="BYTES",
            help="Bytes of a request's head; larger ones get 431.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    max_target_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-target",
            metavar="BYTES",
            help="Bytes of a request's target; longer ones get 414.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    max_body_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-body",
            "--max-body-bytes",
            metavar="BYTES",
            help="Bytes of a request's body; larger ones get 413.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            "--max-connections", help="Client connections of a process; more get 503.", rich_help_panel=LIMITS
        ),
    ] = None,
    pool_limit: Annotated[
        int | None,
        typer.Option("--pool-limit", help="Connections to one endpoint.", rich_help_panel=LIMITS),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option("--drain", help="Seconds for requests in flight after SIGTERM.", rich_help_panel=LIMITS),
    ] = None,
) -> None:
    """Run a proxy until Ctrl-C: in front of one upstream, or by the flag table.

    Example: strangler serve --listen 127.0.0.1:8000 --upstream http://127.0.0.1:8001

    With --candidate every request goes to both, the answers are compared, and the report is shown as it grows.
    """
    settings = load(
        ServeSettings,
        listen=listen,
        upstream=upstream,
        database_url=database_url,
        candidate=candidate,
        shadow=shadow,
        shadow_sticky=shadow_sticky,
        evidence=evidence,
        report=report,
        mirror_queue_limit=mirror_queue,
        mirror_memory_bytes=mirror_memory,
        mirror_connection_limit=mirror_connections,
        mirror_deadline_s=mirror_deadline,
        workers=workers,
        state_dir=state_dir,
        admin_listen=admin_listen,
        trusted_proxies=",".join(trust) if trust else None,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        connect_timeout_s=connect_timeout,
        first_byte_timeout_s=first_byte_timeout,
        idle_timeout_s=idle_timeout,
        total_timeout_s=total_timeout,
        header_timeout_s=header_timeout,
        keep_alive_s=keep_alive,
        tunnel_idle_timeout_s=websocket_idle,
        hold_timeout_s=hold_timeout,
        max_header_bytes=max_header_bytes,
        max_target_bytes=max_target_bytes,
        max_body_bytes=max_body_bytes,
        connection_limit=max_connections,
        pool_limit=pool_limit,
        drain_s=drain,
    )
    if settings.candidate:
        _compare(settings)
    else:
        from strangler_proxy.serve import run

        run(settings)


def _compare(settings: ServeSettings) -> None:
    """Serve, and show the report while it grows and at the end, within 10 s of being asked to stop.

    All processes share one made-up secret where none is configured, so that equal secrets have equal marks.
    """
    from strangler_proxy.cli.shadow_live import shown
    from strangler_proxy.serve import run
    from strangler_proxy.serve_plan import ServePlan

    changed: dict[str, object] = {}
    if settings.secret() is None and settings.shadow_secret is None:
        changed["shadow_secret"] = SecretStr(secrets.token_hex(32))
    if "drain_s" not in settings.model_fields_set:
        changed["drain_s"] = _DRAIN_S
    settings = settings.model_copy(update=changed)
    ServePlan.of(settings)
    title = f"{settings.upstream} against {settings.candidate}"
    with shown(settings.evidence_url, report=settings.report, title=title):
        run(settings)
