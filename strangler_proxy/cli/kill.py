"""`strangler kill`: acts on this host by a file; neither the control plane nor a database is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.output import Format, OutputOption, pairs, say, say_next, show
from strangler_proxy.core.errors import StranglerError, UnknownName
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable

ALL = "all"


class NoStateFolder(StranglerError):
    """There is no folder where a proxy of this host would look."""


def kill(
    flag: Annotated[str, typer.Argument(metavar="FLAG", help="The flag's key, or all.", autocompletion=flag_names)],
    off: Annotated[bool, typer.Option("--off", help="End the kill.")] = False,
    state_dir: Annotated[
        list[Path] | None,
        typer.Option("--state-dir", help="State folder of a proxy; several may be named (else STRANGLER_STATE_DIR)."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the file.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Send a flag's safe requests to the monolith within a second, on this host only.

    Unsafe requests go to the owner of the data as before; while extracted owns it, they get 503 with Retry-After.

    Example: strangler kill CAPABILITY --reason "wrong totals"
    """
    from strangler_proxy.forward.kill import kill_file, switch_off, switch_on

    folders = _folders(state_dir)
    for folder in folders:
        kill_file(folder, flag)  # refuses what cannot be a key before anything is written
    table, problems = _table(folders)
    killed = _known(table, flag, problems)
    if off:
        changed = [str(kill_file(folder, flag)) for folder in folders if switch_off(folder, flag)]
    else:
        changed = [str(switch_on(folder, flag, text=f"{reason}\n")) for folder in folders]
    refusing = sorted(each.key for each in killed if _refuses(each))
    document = {
        "schema_version": 1,
        "flag": flag,
        "killed": not off,
        "files": changed,
        "owners": {each.key: each.owner.value for each in killed if each.owns_data},
        "unsafe_refused": refusing if not off else [],
    }
    show(
        document,
        pairs(("flag", flag), ("kill switch", "off" if off else "on"), ("files", "\n".join(changed) or "none")),
    )
    if off:
        say("proxies of this host end it within a second" if changed else f'no kill of "{flag}" was on here')
        say_next("strangler status")
        return
    say("proxies of this host act on it within a second: safe requests go to the monolith")
    _say_refused(killed, refusing, table)
    given = "".join(f" --state-dir {folder}" for folder in state_dir or ())
    say_next(f"strangler kill {flag} --off{given}", *(f"strangler flip {key} monolith" for key in refusing))


def _folders(given: list[Path] | None) -> list[Path]:
    from strangler_proxy.settings import ServeSettings, load

    folders = given or [load(ServeSettings).state_dir]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise NoStateFolder(
            f"no proxy keeps its state in {', '.join(missing)}: nothing was killed",
            next_command="strangler kill FLAG --state-dir FOLDER",
        )
    return folders


def _table(folders: list[Path]) -> tuple[RoutingTable | None, list[str]]:
    """The newest table that a proxy of this host keeps on disk."""
    from strangler_proxy.core.signing import Signer
    from strangler_proxy.forward.table_file import TableFile
    from strangler_proxy.settings import SigningSettings, load

    problems: list[str] = []
    try:
        secret = load(SigningSettings).secret()
        signer = None if secret is None else Signer(secret)
    except (OSError, ValueError) as error:
        return None, [str(error)]
    newest: RoutingTable | None = None
    for folder in folders:
        found = TableFile(folder, signer).load()
        problems += [f"{folder}: {problem}" for problem in found.problems]
        if found.table is not None and (newest is None or found.table.revision > newest.revision):
            newest = found.table
    return newest, problems


def _known(table: RoutingTable | None, flag: str, problems: list[str]) -> list[Flag]:
    if table is None:
        say("no table of a proxy can be read here, so it is not known whether the flag exists and who owns its data")
        for problem in problems:
            say(f"  {problem}")
        return []
    if flag == ALL:
        return list(table.flags.values())
    found = table.flags.get(flag)
    if found is None:
        raise UnknownName(
            f'there is no flag "{flag}"; there are {", ".join(sorted(table.flags)) or "none"} (and "{ALL}")',
            next_command="strangler flag list",
        )
    return [found]


def _refuses(flag: Flag) -> bool:
    return flag.owns_data and flag.owner is Origin.EXTRACTED


def _say_refused(killed: list[Flag], refusing: list[str], table: RoutingTable | None) -> None:
    if table is None:
        say("if extracted owns the data, unsafe requests get 503 with Retry-After until the writer is moved back")
    for flag in killed:
        if flag.stage is Stage.RETIRED:
            say(f'"{flag.key}" is retired: the monolith\'s copy is dead, so all of its requests get 503')
        elif flag.key in refusing:
            say(
                f'extracted owns the data of "{flag.key}": its unsafe requests get 503 with Retry-After'
                " until the writer is moved back"
            )
