"""Where the verbs of shadow mode find evidence: at the control plane, or in a file on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import getpass
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from strangler_proxy.core.errors import DeclarationError, UnknownName
from strangler_proxy.core.sample import Sample, read_sample

Json = dict[str, Any]
T = TypeVar("T")

_AGO = re.compile(r"(\d{1,6})\s*([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Source(Protocol):
    """Evidence of one flag. Every call raises StranglerError where it cannot be reached."""

    flag: str
    where: Sequence[str]
    """How a command names it: a flag, or `--evidence FILE`."""

    def report(self, since: dt.datetime | None, samples: int) -> Json:
        """`report`, the `samples` that it names (as Sample), and the flag's `stage` (empty where there is none)."""
        ...

    def rules(self) -> list[Json]:
        """All rules, with what is wrong with them."""
        ...

    def add_rule(self, rule: Json) -> Json:
        """Add a rule; as it is now."""
        ...

    def test_rule(self, rule: Json) -> Json:
        """What a rule would do to the recorded evidence."""
        ...

    def expire_rule(self, rule_id: str, on: dt.date, reason: str) -> None:
        """Let a rule end."""
        ...

    def tally_lines(self) -> list[str]:
        """Tallies as lines of an export."""
        ...

    def samples(self) -> Iterator[Sample]:
        """All samples, newest first."""
        ...

    def take_in(self, lines: Sequence[str], *, writer: str, reason: str) -> tuple[int, int]:
        """Keep lines of an export; how many strata and samples."""
        ...


@contextlib.contextmanager
def source_of(flag: str | None, evidence: str | None, *, create: bool = False) -> Iterator[Source]:
    """The evidence that a command names. Raises UnknownName where it names none, or one of several is to be chosen."""
    if evidence is not None:
        from strangler_proxy.cli.shadow_source_file import FileSource

        yield FileSource(evidence, flag, create=create)
        return
    if flag is None:
        raise UnknownName(
            "name the flag whose evidence is meant, or --evidence FILE", next_command="strangler flag list"
        )
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        yield ControlSource(control, named("flag", flag))


class ControlSource:
    """Evidence at the control plane."""

    def __init__(self, control: Any, flag: str) -> None:
        self.flag = flag
        self.where: Sequence[str] = (flag,)
        self._control = control
        self._path = f"/v1/flags/{flag}/shadow"

    def report(self, since: dt.datetime | None, samples: int) -> Json:
        """As the protocol says."""
        said = None if since is None else since.isoformat()
        found: Json = self._control.get(self._path, since=said, samples=samples)
        return found | {"samples": [read_sample(each) for each in found["samples"]]}

    def rules(self) -> list[Json]:
        """As the protocol says."""
        found: list[Json] = self._control.get(f"{self._path}/rules")["rules"]
        return found

    def add_rule(self, rule: Json) -> Json:
        """As the protocol says."""
        found: Json = self._control.post(f"{self._path}/rules", rule)["rule"]
        return found

    def test_rule(self, rule: Json) -> Json:
        """As the protocol says."""
        found: Json = self._control.ask(f"{self._path}/rules/test", rule)["trial"]
        return found

    def expire_rule(self, rule_id: str, on: dt.date, reason: str) -> None:
        """As the protocol says."""
        from strangler_proxy.cli.client import named

        path = f"{self._path}/rules/{named('rule', rule_id)}/expire"
        self._control.post(path, {"on": on.isoformat(), "reason": reason})

    def tally_lines(self) -> list[str]:
        """As the protocol says."""
        found: list[str] = self._control.get(f"{self._path}/tallies")["lines"]
        return found

    def samples(self) -> Iterator[Sample]:
        """Page by page."""
        query: Json = {}
        while True:
            page = self._control.get(f"{self._path}/samples", **query)
            yield from (read_sample(each) for each in page["samples"])
            if page["before"] is None:
                return
            query = {"before_at": page["before"]["at"], "before_id": page["before"]["id"]}

    def take_in(self, lines: Sequence[str], *, writer: str, reason: str) -> tuple[int, int]:
        """As the protocol says."""
        body = {"writer": writer, "lines": list(lines), "reason": reason}
        found = self._control.post(f"{self._path}/import", body)
        return int(found["strata"]), int(found["samples"])


def find_sample(sample_id: str, evidence: str | None) -> Sample:
    """The sample of that id (or the beginning of one), of whatever flag. Raises UnknownName."""
    if evidence is not None:
        from strangler_proxy.cli.shadow_source_file import sample_of_file

        return sample_of_file(evidence, sample_id)
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        return read_sample(control.get(f"/v1/shadow/samples/{named('sample', sample_id)}")["sample"])


def moment(text: str | None, *, now: dt.datetime) -> dt.datetime | None:
    """A time as people write it: `90m` or `2d` ago, or ISO 8601 (local where it has no offset).

    >>> moment("2h", now=dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)).hour
    10
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now - dt.timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2]])
    try:
        return dt.datetime.fromisoformat(text.strip()).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise DeclarationError([f'"{text}" is no time: give 90m, 2h, 3d or 2026-11-27T12:00:00+00:00']) from None


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function to its end."""

    async def whole() -> T:
        return await work()

    return asyncio.run(whole())


def actor() -> str:
    """Who changes a file, for its log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def no_evidence(stage: str, where: Sequence[str]) -> Iterator[str]:
    """What makes sense where nothing was mirrored yet."""
    if where[0] == "--evidence":
        yield "strangler serve --listen :8000 --upstream URL --candidate URL --shadow 100%"
    elif stage == "monolith":
        yield f"strangler flip {where[0]} shadow"
    elif stage == "retired":
        yield f"strangler flag show {where[0]}"
    else:
        yield f"strangler status {where[0]}"
