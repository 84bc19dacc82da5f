"""What a contestant and a case are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kind of load: `mode` get, post or vary (other fields each time), `connections` kept alive."""

    name: str
    mode: str
    path: str
    connections: int
    seconds: int = 1


CASES: Final = (
    Case(name="1 KB", mode="get", path="/1k.json", connections=32),
    Case(name="64 KB", mode="get", path="/64k.json", connections=32),
    Case(name="POST 4 KB", mode="post", path="/post", connections=32),
    Case(name="1 KB, one connection", mode="get", path="/1k.json", connections=1),
    Case(name="2 KB JSON", mode="get", path="/2k.json", connections=32),
)
ALL: Final = tuple(case.name for case in CASES)
USUAL: Final = tuple(case.name for case in CASES[:4])
SHADOWED: Final = ("1 KB", "64 KB", "2 KB JSON")
WRITES: Final = ("POST 4 KB",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who is measured.

    `prepare(folder, port)` writes configuration there and gives the command; `None`: the upstream itself. It takes
    part in `cases`. `lags`: it goes on working after the load has ended; that work counts too. `why_not()` says what
    is missing where it cannot take part.
    """

    name: str
    prepare: Callable[[Path, int], list[str]] | None
    environment: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[str, ...] = USUAL
    lags: bool = False
    why_not: Callable[[], str] = str
