"""The command `strangler`. Each command's module is imported when it is used, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from strangler_proxy.core.errors import StranglerError

LOOK = "Look"
CHANGE = "Change"
RUN = "Run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a command (a function) or a group (a Typer) is, and its line in the list of commands."""

    target: str
    says: str
    panel: str


COMMANDS = {
    "status": Entry(target="status:status", says="What serves what, who owns it, who has taken it.", panel=LOOK),
    "watch": Entry(target="watch:watch", says="The same, live, with proxies, streams and operations.", panel=LOOK),
    "why": Entry(target="why:why", says="Where a request would go, and which step decided.", panel=LOOK),
    "flag": Entry(target="flag:app", says="Flags: list, show, history.", panel=LOOK),
    "route": Entry(target="route:app", says="Routes: list, show.", panel=LOOK),
    "operation": Entry(target="operation:app", says="What workers do: list, show, withdraw.", panel=LOOK),
    "shadow": Entry(target="shadow:app", says="What mirroring has found: report, show, rule, replay.", panel=LOOK),
    "audit": Entry(target="audit:app", says="Who changed what: list, verify the chain.", panel=LOOK),
    "apply": Entry(target="apply:apply", says="Write capability files to the flag table.", panel=CHANGE),
    "sync": Entry(target="sync:app", says="Keep a flag's rows in step, verify them, rehearse.", panel=CHANGE),
    "flip": Entry(target="flip:flip", says="Change a flag's stage or weight.", panel=CHANGE),
    "retire": Entry(target="retire:retire", says="End the way back; later drop the old tables.", panel=CHANGE),
    "kill": Entry(target="kill:kill", says="Send safe requests to the monolith, at once, on this host.", panel=CHANGE),
    "up": Entry(target="local:up", says="Run both stacks side by side on this machine.", panel=RUN),
    "ps": Entry(target="local:ps", says="What `up` runs.", panel=RUN),
    "logs": Entry(target="local:logs", says="What it writes.", panel=RUN),
    "down": Entry(target="local:down", says="End it.", panel=RUN),
    "serve": Entry(target="serve:serve", says="Run a proxy.", panel=RUN),
    "worker": Entry(target="worker:worker", says="Run appliers and cutovers.", panel=RUN),
    "control": Entry(target="control:control", says="Run the control plane.", panel=RUN),
}


class LazyGroup(TyperGroup):
    """Looks commands up in COMMANDS; while it lists them for `--help`, it shows their lines and imports nothing."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, None where there is none."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=entry.says, rich_help_panel=entry.panel)
        return load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def load(name: str) -> Any:
    """Import a command and make it ready to run."""
    entry = COMMANDS[name]
    module, _, attribute = entry.target.partition(":")
    found = getattr(importlib.import_module(f"strangler_proxy.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"strangler {version('strangler-toolkit')}")
        raise typer.Exit


@app.callback()
def strangler(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and end.")
    ] = False,
) -> None:
    """Take a monolith apart safely: route, run both sides, move the data with one writer, go back at every step.

    Example: strangler flip CAPABILITY canary --weight 25% --reason "first quarter"
    """


def main() -> None:
    """Run the command line; exit codes: 0 ok, 1 error, 2 usage, 3 gate, 4 stale, 5 timeout, 6 control plane away."""
    from strangler_proxy.cli import output

    try:
        _speak_to_the_run()
        typer.main.get_command(app)(prog_name="strangler")
    except StranglerError as error:
        output.report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _speak_to_the_run() -> None:
    """Verbs find what `strangler up` runs here; what runs by itself (`serve`, ...) is told by its own environment."""
    entry = COMMANDS.get(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    if entry is not None and entry.panel in (LOOK, CHANGE):
        from strangler_proxy.local import shell_file

        shell_file.adopt()


if __name__ == "__main__":
    main()
