"""From what is declared to what is run: ports chosen, secrets made, servers found, placeholders filled in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.local import shell_file
from strangler_proxy.local.declaration import Health, Process, Project, Step
from strangler_proxy.local.ports import choose_free
from strangler_proxy.local.probes import CommandProbe, HttpProbe, Probe, TcpProbe
from strangler_proxy.local.references import POSTGRES, VALKEY, needs_of
from strangler_proxy.local.secret_files import SecretFiles
from strangler_proxy.local.servers import set_up_broker, set_up_databases
from strangler_proxy.local.state_file import MARKER
from strangler_proxy.local.substitution import fill_in, names_in
from strangler_proxy.local.unit import Job, Service

LEAST_PORT = 1024
PORTS = 65536 - LEAST_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """`units` in an order that keeps every need; `bound` are the ports that a process of this run will listen on,
    `databases` the connection strings of the databases as their owners.
    """

    project: Project
    ports: Mapping[str, int]
    units: tuple[Job | Service, ...]
    bound: Mapping[str, int]
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)


def choose_ports(project: Project, *, offset: int = 0, free: bool = False) -> dict[str, int]:
    """Port numbers of a run. An offset that leads past 65535 goes on at 1024.

    Raises DeclarationError where two ports would be the same.
    """
    if free:
        return choose_free(project.ports)
    if not offset:
        return dict(project.ports)
    ports = {name: LEAST_PORT + (number + offset - LEAST_PORT) % PORTS for name, number in project.ports.items()}
    if len(set(ports.values())) < len(ports):
        raise DeclarationError([f"with the offset {offset} two ports are the same: choose another one"])
    return ports


def assemble(project: Project, ports: Mapping[str, int], environ: Mapping[str, str]) -> Assembly:
    """Make secrets and the shell file in the var folder, and every unit. Raises StranglerError."""
    return _Assembler(project, ports, environ).assemble()


class _Assembler:
    def __init__(self, project: Project, ports: Mapping[str, int], environ: Mapping[str, str]) -> None:
        self.project = project
        self.ports = ports
        self.environ = environ
        self.secrets = SecretFiles(project.var / "secrets")
        self.values: dict[str, str] = {
            "root": str(project.root),
            "var": str(project.var),
            "python": sys.executable,
            **{f"ports.{name}": str(port) for name, port in ports.items()},
        }
        # `python`, `strangler` and what else is installed beside this interpreter come first.
        path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
        self.base = {**environ, "PATH": path, "PYTHONUNBUFFERED": "1", MARKER: str(project.var)}

    def assemble(self) -> Assembly:
        for name, size in self.project.secrets.items():
            self.values[f"secrets.{name}"] = self.secrets.get(name, entropy_bytes=size)
            self.values[f"secret_files.{name}"] = str(self.secrets.path(name))
        units: list[Job | Service] = self._servers()
        servers = {unit.name for unit in units}
        self._require_values()
        self.base |= self._filled(self.project.env)
        absent = {POSTGRES, VALKEY} - servers
        units += [self._job(step, absent) for step in self.project.steps]
        units += [self._service(process, absent) for process in self.project.processes]
        self._write_shell_file()
        elsewhere = {name for name in (POSTGRES, VALKEY) if not _embedded(name, units)}
        bound = {name: port for name, port in self.ports.items() if name not in elsewhere}
        databases = {
            name.split(".")[1]: url
            for name, url in self.values.items()
            if name.startswith("databases.") and name.count(".") == 1
        }
        return Assembly(
            project=self.project, ports=self.ports, units=tuple(_ordered(units)), bound=bound, databases=databases
        )

    def _servers(self) -> list[Job | Service]:
        units: list[Job | Service] = []
        var, environ, project = self.project.var, self.environ, self.project
        if project.postgres is not None:
            databases = set_up_databases(
                project.postgres,
                port=self.ports[POSTGRES],
                var=var,
                secrets=self.secrets,
                environ=environ,
                env=self.base,
            )
            self.values |= databases.urls
            units += [databases.unit] if databases.unit is not None else []
        if project.valkey is not None:
            url, server = set_up_broker(
                project.valkey, port=self.ports[VALKEY], var=var, environ=environ, env=self.base
            )
            self.values["broker"] = url
            units += [server] if server is not None else []
        return units

    def _require_values(self) -> None:
        units: tuple[Step | Process, ...] = (*self.project.steps, *self.project.processes)
        texts = [text for unit in units for text in (*unit.command, *unit.env.values())]
        texts += [*self.project.env.values(), *self.project.shell.values()]
        missing = sorted({name for text in texts for name in names_in(text) if name not in self.values})
        if missing:
            raise DeclarationError(
                [
                    f"{{{name}}} has no value: its database is configured, add the variable to role_url_env"
                    for name in missing
                ]
            )

    def _filled(self, env: Mapping[str, str]) -> dict[str, str]:
        return {name: fill_in(text, self.values) for name, text in env.items()}

    def _words(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(fill_in(word, self.values) for word in words)

    def _job(self, step: Step, absent: set[str]) -> Job:
        return Job(
            name=step.name,
            needs=frozenset(needs_of(step) - absent),
            command=self._words(step.command),
            env={**self.base, **self._filled(step.env)},
            folder=self.project.root / fill_in(step.folder, self.values),
            timeout_s=step.timeout_s,
        )

    def _service(self, process: Process, absent: set[str]) -> Service:
        env = {**self.base, **self._filled(process.env)}
        folder = self.project.root / fill_in(process.folder, self.values)
        health = process.health or Health()
        url = fill_in(process.url, self.values)
        return Service(
            name=process.name,
            needs=frozenset(needs_of(process) - absent),
            command=self._words(process.command),
            env=env,
            folder=folder,
            probe=self._probe(health, env, folder),
            within_s=health.within_s,
            every_s=health.every_s,
            restart=process.restart,
            stop_signal=process.stop_signal,
            grace_s=process.grace_s,
            url=url,
            ports=self._ports_of(process),
        )

    def _probe(self, health: Health, env: Mapping[str, str], folder: Path) -> Probe | None:
        if health.http:
            return HttpProbe(url=fill_in(health.http, self.values), timeout_s=health.timeout_s)
        if health.tcp:
            host, _, port = fill_in(health.tcp, self.values).rpartition(":")
            if not port.isdigit():
                raise DeclarationError([f"health: {health.tcp!r} does not name HOST:PORT"])
            return TcpProbe(host=host, port=int(port), timeout_s=health.timeout_s)
        if health.command:
            return CommandProbe(command=self._words(health.command), env=env, folder=folder, timeout_s=health.timeout_s)
        return None

    def _ports_of(self, process: Process) -> tuple[int, ...]:
        """The ports that its own command line, health and url speak of: those that it listens on."""
        health = process.health or Health()
        texts = [*process.command, process.url, health.http, health.tcp]
        names = {name for text in texts for name in names_in(text) if name.startswith("ports.")}
        found = {int(self.values[name]) for name in names}
        for url in (process.url, health.http):
            number = urlsplit(fill_in(url, self.values)).port if url else None
            found |= {number} if number else set()
        return tuple(sorted(found))

    def _write_shell_file(self) -> None:
        shell_file.write(self.project.var, self._filled(self.project.shell))


def _embedded(name: str, units: list[Job | Service]) -> bool:
    return any(isinstance(unit, Service) and unit.name == name for unit in units)


def _ordered(units: list[Job | Service]) -> list[Job | Service]:
    """Units after what they need, else as written."""
    placed: list[Job | Service] = []
    waiting = list(units)
    while waiting:
        names = {unit.name for unit in placed}
        ready = next((unit for unit in waiting if unit.needs <= names), waiting[0])
        placed.append(ready)
        waiting.remove(ready)
    return placed
