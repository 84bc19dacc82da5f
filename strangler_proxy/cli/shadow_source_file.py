"""Evidence in a file (or at any URL of evidence), opened by the command itself: there is no control plane to ask."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from strangler_proxy.cli.shadow_source import actor, run
from strangler_proxy.control.shadow import (
    add_rule,
    named_samples,
    one_sample,
    reckon,
    rules_document,
    take_in,
    trial,
)
from strangler_proxy.core.errors import DeclarationError, UnknownName
from strangler_proxy.core.evidence_lines import Lines, tally_lines
from strangler_proxy.core.rule_form import read_rule
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.verdict import Demands
from strangler_proxy.store.evidence_opened import Evidence, open_evidence

Json = dict[str, Any]
T = TypeVar("T")

_PAGE = 200
_TIMEOUT_S = 30.0


class FileSource:
    """Evidence of one flag in a file. A file with one flag (or of a proxy without a table) needs none to be named."""

    def __init__(self, evidence: str, flag: str | None, *, create: bool = False) -> None:
        self._evidence = evidence
        self._create = create
        self.where: Sequence[str] = ("--evidence", evidence, *(() if flag is None else (flag,)))
        self.flag = self._chosen(flag)

    def report(self, since: dt.datetime | None, samples: int) -> Json:
        """As the protocol says."""

        async def work(book: Evidence) -> Json:
            rules = await book.rules(self.flag)
            title = self.flag or self._evidence
            now = dt.datetime.now(dt.UTC)
            found = await reckon(book, self.flag, title=title, rules=rules, demands=Demands(), now=now, since=since)
            kept = await named_samples(book, self.flag, found.report, samples)
            return {"stage": "", "report": found.report.document(), "samples": kept}

        return self._with(work)

    def rules(self) -> list[Json]:
        """As the protocol says."""

        async def work(book: Evidence) -> list[Json]:
            tallies = await book.tallies(self.flag)
            return rules_document(await book.rules(self.flag), (), tallies, _today())

        return self._with(work)

    def add_rule(self, rule: Json) -> Json:
        """As the protocol says."""

        async def work(book: Evidence) -> Rule:
            return await add_rule(book, self.flag, _rule(rule), by=actor(), today=_today())

        added = self._with(work)
        return next(each for each in self.rules() if each["id"] == added.id)

    def test_rule(self, rule: Json) -> Json:
        """As the protocol says."""

        async def work(book: Evidence) -> Json:
            return (await trial(book, self.flag, _rule(rule), _today())).document()

        return self._with(work)

    def expire_rule(self, rule_id: str, on: dt.date, reason: str) -> None:
        """As the protocol says."""

        async def work(book: Evidence) -> None:
            try:
                await book.expire_rule(self.flag, rule_id, on, by=actor(), reason=reason)
            except UnknownName as error:
                command = f"strangler shadow rule list {shlex.join(self.where)}"
                raise UnknownName(error.message, next_command=command) from None

        self._with(work)

    def tally_lines(self) -> list[str]:
        """As the protocol says."""

        async def work(book: Evidence) -> list[str]:
            tallies = await book.tallies(self.flag)
            return [line for tally in reversed(tallies) for line in tally_lines(tally)]

        return self._with(work)

    def samples(self) -> Iterator[Sample]:
        """Page by page."""
        before: tuple[dt.datetime, str] | None = None
        while page := self._page(before):
            yield from page
            before = page[-1].at, page[-1].id

    def take_in(self, lines: Sequence[str], *, writer: str, reason: str) -> tuple[int, int]:
        """As the protocol says."""
        read = Lines(into=self.flag)
        for line in lines:
            read.take(line)
        return self._with(lambda book: take_in(book, self.flag, read, writer=writer, by=actor(), reason=reason))

    def _page(self, before: tuple[dt.datetime, str] | None) -> Sequence[Sample]:
        return self._with(lambda book: book.samples(self.flag, limit=_PAGE, before=before))

    def _chosen(self, flag: str | None) -> str:
        if flag is not None:
            return flag
        found = self._with(lambda book: book.flags())
        if len(found) > 1 and "" not in found:
            raise UnknownName(
                f"{self._evidence} holds evidence of {', '.join(found)}: name one of them",
                next_command=f"strangler shadow report {found[0]} --evidence {shlex.quote(self._evidence)}",
            )
        return "" if "" in found or not found else found[0]

    def _with(self, work: Callable[[Evidence], Awaitable[T]]) -> T:
        async def whole() -> T:
            async with open_evidence(self._evidence, create=self._create, timeout_s=_TIMEOUT_S) as book:
                return await work(book)

        return run(whole)


def sample_of_file(evidence: str, sample_id: str) -> Sample:
    """The sample of that id, of whatever flag. Raises UnknownName."""

    async def work() -> Sample:
        async with open_evidence(evidence, create=False, timeout_s=_TIMEOUT_S) as book:
            try:
                return await one_sample(book, sample_id)
            except UnknownName as error:
                raise UnknownName(
                    error.message, next_command=f"strangler shadow report --evidence {shlex.quote(evidence)}"
                ) from None

    return run(work)


def _rule(document: Json) -> Rule:
    try:
        return read_rule(document)
    except (KeyError, TypeError, ValueError) as error:
        raise DeclarationError([f"rule: {error}"]) from None


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
