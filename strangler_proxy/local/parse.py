"""`strangler.toml` from text to values. Every problem is told at once, each with file, line and what to do."""

from __future__ import annotations

import re
import signal
import tomllib
from pathlib import Path

from strangler_proxy.core.errors import DeclarationError, StranglerError
from strangler_proxy.local.declaration import (
    Broker,
    Database,
    Health,
    Postgres,
    Process,
    Project,
    Restart,
    Role,
    Step,
)
from strangler_proxy.local.places import Places
from strangler_proxy.local.reader import Problems, Reader
from strangler_proxy.local.references import check_names, check_references

FILE_NAME = "strangler.toml"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class NoProject(StranglerError):
    """There is no strangler.toml where one was looked for."""

    exit_code = 2


def load_project(path: Path, *, var: Path | None = None) -> Project:
    """Read a file (or the `strangler.toml` of a folder). `var` replaces the folder that it names for data.

    Raises NoProject, and DeclarationError with every problem found.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise NoProject(
            f"{file} does not exist",
            next_command="write one (docs/reference/strangler-toml.md), or name it: strangler up --file PATH",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoProject(f"{file} cannot be read: {error}") from error
    return parse_project(text, file, var=var)


def parse_project(text: str, path: Path, *, var: Path | None = None) -> Project:
    """`text` of the file at `path` as a Project. Raises DeclarationError with every problem found."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        line = place[1] if place else str(len(text.splitlines()) or 1)
        what = re.sub(r" \(at .*\)$", "", str(error))
        raise DeclarationError([f"{path}:{line}: not TOML: {what}"]) from None
    problems = Problems(path, Places(text))
    root = Reader(document, (), problems, title="strangler.toml")
    folder = root.text("var", "var")
    project = Project(
        name=root.text("name", path.resolve().parent.name),
        path=path.resolve(),
        var=(var or path.resolve().parent / folder).resolve(),
        ports=_ports(root),
        secrets=_secrets(root),
        env=root.texts("env"),
        shell=root.texts("shell"),
        postgres=_postgres(root),
        valkey=_valkey(root),
        steps=tuple(_step(reader) for reader in root.array("steps", kind="step")),
        processes=tuple(_process(reader) for reader in root.array("processes", kind="process")),
    )
    root.finish()
    check_names(project, problems)
    check_references(project, problems)
    if problems.lines:
        raise DeclarationError(problems.lines)
    return project


def _ports(root: Reader) -> dict[str, int]:
    reader = root.table("ports")
    if reader is None:
        return {}
    ports: dict[str, int] = {}
    for name in list(root.take("ports") if isinstance(root.take("ports"), dict) else {}):
        port = reader.whole(name, 0, least=1, most=65535)
        if port and port in ports.values():
            reader.wrong(name, f"is {port}, which another name has already")
        ports[name] = port
    return ports


def _secrets(root: Reader) -> dict[str, int]:
    found = {}
    for name, reader in root.tables("secrets", kind="secret"):
        if not _NAME.fullmatch(name):
            reader.problems.add(reader.key, f'secret "{name}": use lower-case letters, digits, - and _')
        found[name] = reader.whole("bytes", 32, least=16, most=1024)
        reader.finish()
    return found


def _postgres(root: Reader) -> Postgres | None:
    reader = root.table("postgres")
    if reader is None:
        return None
    roles = []
    for name, role in reader.tables("roles", kind="role"):
        _require_identifier(role, name)
        roles.append(Role(name=name, member_of=role.words("member_of"), create_on=role.words("create_on")))
        role.finish()
    databases = []
    for name, database in reader.tables("databases", kind="database"):
        _require_identifier(database, name)
        databases.append(
            Database(
                name=name,
                owner=database.text("owner", None),
                url_env=database.text("url_env"),
                role_url_env=database.texts("role_url_env"),
            )
        )
        database.finish()
    declared = Postgres(
        url_env=reader.text("url_env"),
        settings=reader.texts("settings"),
        roles=tuple(roles),
        databases=tuple(databases),
    )
    reader.finish()
    return declared


def _require_identifier(reader: Reader, name: str) -> None:
    if not _IDENTIFIER.fullmatch(name):
        reader.problems.add(reader.key, f"{reader.title}: use lower-case letters, digits and _, at most 63")


def _valkey(root: Reader) -> Broker | None:
    reader = root.table("valkey")
    if reader is None:
        return None
    declared = Broker(url_env=reader.text("url_env"))
    reader.finish()
    return declared


def _step(reader: Reader) -> Step:
    step = Step(
        name=_unit_name(reader),
        command=reader.words("command", required=True, split=True),
        env=reader.texts("env"),
        needs=reader.words("needs"),
        folder=reader.text("folder", "."),
        timeout_s=reader.seconds("timeout_s", 120.0),
    )
    reader.finish()
    return step


def _process(reader: Reader) -> Process:
    process = Process(
        name=_unit_name(reader),
        command=reader.words("command", required=True, split=True),
        env=reader.texts("env"),
        needs=reader.words("needs"),
        folder=reader.text("folder", "."),
        health=_health(reader),
        restart=_restart(reader),
        stop_signal=_signal(reader),
        grace_s=reader.seconds("grace_s", 10.0, most=300.0),
        url=reader.text("url"),
    )
    reader.finish()
    return process


def _unit_name(reader: Reader) -> str:
    name = reader.text("name", None)
    if name and not _NAME.fullmatch(name):
        reader.wrong("name", f"is {name!r}: use lower-case letters, digits, - and _, at most 40, a letter first")
    return name


def _health(parent: Reader) -> Health | None:
    reader = parent.table("health")
    if reader is None:
        return None
    health = Health(
        http=reader.text("http"),
        tcp=reader.text("tcp"),
        command=reader.words("command", split=True),
        timeout_s=reader.seconds("timeout_s", 2.0, most=60.0),
        within_s=reader.seconds("within_s", 60.0),
        every_s=reader.seconds("every_s", 5.0),
    )
    if sum(map(bool, (health.http, health.tcp, health.command))) != 1:
        parent.wrong("health", "needs exactly one of http, tcp and command")
    elif health.http and not health.http.startswith("http://"):
        parent.wrong("health", f"must ask an http:// URL, not {health.http!r}")
    elif health.tcp and not re.fullmatch(r"[^:]+:.+", health.tcp):
        parent.wrong("health", f"must name HOST:PORT, not {health.tcp!r}")
    reader.finish()
    return health


def _restart(reader: Reader) -> Restart:
    text = reader.text("restart", Restart.ALWAYS.value)
    try:
        return Restart(text)
    except ValueError:
        reader.wrong("restart", f"is {text!r}: use {', '.join(kind.value for kind in Restart)}")
        return Restart.ALWAYS


def _signal(reader: Reader) -> signal.Signals:
    text = reader.text("stop_signal", "SIGTERM")
    allowed = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGQUIT": signal.SIGQUIT, "SIGHUP": signal.SIGHUP}
    if text not in allowed:
        reader.wrong("stop_signal", f"is {text!r}: use {', '.join(allowed)}")
    return allowed.get(text, signal.SIGTERM)
