"""`strangler control`."""

from __future__ import annotations

from typing import Annotated

import typer

from strangler_proxy.cli.output import say, say_next
from strangler_proxy.core.errors import StranglerError


class PortTaken(StranglerError):
    """Something listens there already."""


def control(
    listen: Annotated[
        str | None, typer.Option("--listen", "-l", help="HOST:PORT of the API (else STRANGLER_CONTROL_LISTEN).")
    ] = None,
    migrate_only: Annotated[
        bool, typer.Option("--migrate-only", help="Bring the control database's schema up to date, and end.")
    ] = False,
) -> None:
    """Run the control plane: the authenticated API that the other commands talk to.

    Example: strangler control --listen 127.0.0.1:8010
    """
    from strangler_proxy import control_asgi
    from strangler_proxy.settings import ControlSettings, load

    settings = load(ControlSettings, control_listen=listen)
    if migrate_only:
        applied = control_asgi.migrate_only(settings)
        say(f"the control database's schema is up to date; applied now: {', '.join(applied) or 'nothing'}")
        say_next("strangler control")
        return
    try:
        control_asgi.run(settings)
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {settings.control_listen}: {error.strerror or error}",
            next_command="strangler control --listen HOST:PORT",
        ) from error
