"""Do the names in a strangler.toml mean something: needs, placeholders, roles; and is there an order to start in?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from strangler_proxy.local.declaration import Postgres, Process, Project, Step
from strangler_proxy.local.places import Key
from strangler_proxy.local.reader import Problems
from strangler_proxy.local.substitution import names_in

POSTGRES = "postgres"
VALKEY = "valkey"


def known_names(project: Project) -> set[str]:
    """Every placeholder that may be used in this project."""
    names = {"root", "var", "python"}
    names |= {f"ports.{name}" for name in project.ports}
    for secret in project.secrets:
        names |= {f"secrets.{secret}", f"secret_files.{secret}"}
    if project.valkey is not None:
        names.add("broker")
    for database in project.postgres.databases if project.postgres else ():
        names.add(f"databases.{database.name}")
        names |= {f"databases.{database.name}.{role.name}" for role in project.postgres.roles}  # type: ignore[union-attr]
    return names


def needs_of(unit: Step | Process) -> set[str]:
    """What a step or process waits for: its `needs`, and the servers that its placeholders speak of."""
    texts = [*unit.command, *unit.env.values()]
    if isinstance(unit, Process) and unit.health is not None:
        texts += [unit.health.http, unit.health.tcp, *unit.health.command]
    tops = {name.split(".")[0] for text in texts for name in names_in(text)}
    return set(unit.needs) | ({POSTGRES} if "databases" in tops else set()) | ({VALKEY} if "broker" in tops else set())


def check_names(project: Project, problems: Problems) -> None:
    """Unit names are used once, `needs` names units, and nothing waits for itself."""
    servers = {name for name, there in ((POSTGRES, project.postgres), (VALKEY, project.valkey)) if there is not None}
    seen: set[str] = set(servers)
    units = list(_units(project))
    for key, unit in units:
        if unit.name in seen:
            problems.add((*key, "name"), f'the name "{unit.name}" is used twice')
        seen.add(unit.name)
    for key, unit in units:
        for need in unit.needs:
            if need not in seen:
                problems.add((*key, "needs"), f'"{unit.name}" needs "{need}", which is no step, process or server')
    graph = {unit.name: needs_of(unit) & seen for _, unit in units}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        key = next((key for key, unit in units if unit.name in error.args[1]), ())
        problems.add((*key, "needs"), f"these wait for each other: {circle}")
    for server in servers:
        if server not in project.ports:
            problems.add((server,), f"[{server}] needs a port: add `{server} = NUMBER` to [ports]")
    if project.postgres is not None:
        _check_postgres(project.postgres, problems)


def check_references(project: Project, problems: Problems) -> None:
    """Every placeholder has a value."""
    known = known_names(project)
    for key, text in _texts(project):
        for name in names_in(text):
            if name not in known:
                near = ", ".join(sorted(other for other in known if other.split(".")[0] == name.split(".")[0]))
                hint = f"known: {near}" if near else f"write {{{{{name}}}}} for the text itself"
                problems.add(key, f"{{{name}}} is not known ({hint})")


def _check_postgres(postgres: Postgres, problems: Problems) -> None:
    roles = {role.name for role in postgres.roles}
    databases = {database.name for database in postgres.databases}
    for role in postgres.roles:
        for other in role.member_of:
            if other not in roles:
                problems.add((POSTGRES, "roles", role.name, "member_of"), f'role "{other}" is not declared')
        for name in role.create_on:
            if name not in databases:
                problems.add((POSTGRES, "roles", role.name, "create_on"), f'database "{name}" is not declared')
    for database in postgres.databases:
        for role_name in (database.owner, *database.role_url_env):
            if role_name and role_name not in roles:
                problems.add((POSTGRES, "databases", database.name, "owner"), f'role "{role_name}" is not declared')


def _units(project: Project) -> Iterator[tuple[Key, Step | Process]]:
    for index, step in enumerate(project.steps):
        yield ("steps", index), step
    for index, process in enumerate(project.processes):
        yield ("processes", index), process


def _texts(project: Project) -> Iterator[tuple[Key, str]]:
    yield from _env(("env",), project.env)
    yield from _env(("shell",), project.shell)
    for key, unit in _units(project):
        yield from (((*key, "command"), word) for word in unit.command)
        yield from _env((*key, "env"), unit.env)
        yield (*key, "folder"), unit.folder
        if isinstance(unit, Process):
            yield (*key, "url"), unit.url
            if unit.health is not None:
                yield from (
                    ((*key, "health"), text) for text in (unit.health.http, unit.health.tcp, *unit.health.command)
                )


def _env(key: Key, env: Mapping[str, str]) -> Iterator[tuple[Key, str]]:
    yield from (((*key, name), text) for name, text in env.items())
