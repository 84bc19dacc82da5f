"""`strangler worker`."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    listen: Annotated[
        str | None,
        typer.Option("--listen", "-l", help="HOST:PORT of health and metrics (else STRANGLER_WORKER_LISTEN)."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of this worker (else STRANGLER_WORKER_ID).")] = None,
) -> None:
    """Run appliers and cutovers, until SIGTERM. Several workers share the work under leases.

    Example: strangler worker --listen 127.0.0.1:8011
    """
    from strangler_proxy.settings import WorkerSettings, load
    from strangler_proxy.worker import run

    run(load(WorkerSettings, worker_listen=listen, worker_id=name))
