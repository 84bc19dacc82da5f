"""What `strangler.toml` declares, as values: servers, secrets, steps and processes of one machine."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class Restart(Enum):
    """When a process that ended is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a process shows that it is up: exactly one of `http` (a URL answered with 2xx or 3xx), `tcp` (HOST:PORT that
    accepts) and `command` (ends with 0). `timeout_s` is for one look, `within_s` for the first good one after a start,
    `every_s` between looks at a process that is up.
    """

    http: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    timeout_s: float = 2.0
    within_s: float = 60.0
    every_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command that runs once at each start and must end with 0 within `timeout_s`."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    folder: str = "."
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A command that is kept running. `url` is what a person opens; `grace_s` passes between `stop_signal` and kill."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    folder: str = "."
    health: Health | None = None
    restart: Restart = Restart.ALWAYS
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A login role with a generated password of its own. It inherits what `member_of` may do, and may make schemas in
    the databases of `create_on`.
    """

    name: str
    member_of: tuple[str, ...] = ()
    create_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database and its owner. `url_env` names the variable that, where set, gives another database to use instead;
    `role_url_env` the same for connections as other roles.
    """

    name: str
    owner: str
    url_env: str = ""
    role_url_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """The PostgreSQL server. `url_env` names the variable with an administrator's URL of a server to use instead."""

    url_env: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()
    databases: tuple[Database, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The embedded Valkey as a broker. `url_env` names the variable with the URL of a broker to use instead."""

    url_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One parsed `strangler.toml`. `root` is its folder; `secrets` are names and bytes of randomness."""

    name: str
    path: Path
    var: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, int]
    env: Mapping[str, str]
    shell: Mapping[str, str]
    postgres: Postgres | None
    valkey: Broker | None
    steps: tuple[Step, ...]
    processes: tuple[Process, ...]

    @property
    def root(self) -> Path:
        """The folder that commands run in."""
        return self.path.parent
