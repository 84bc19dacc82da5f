"""The cutover protocol as an explicit-state model, explored breadth-first in both directions.

Two databases (0 monolith, 1 extracted), two rows, two writers that may be routed to either side at any time, two
appliers whose source session may die, two coordinators that may pause or crash at every step, and a recoverer that may
pause between reading a committed record and opening its target. Every transition is one transaction of
`strangler_proxy/sync`. Grown from the forward-only exploration that came before the code.

Checked: never both open; whoever is open holds the last committed write of every row; no keys pending and nobody
applying means equal; from every state it is possible to get back to one open owner, an equal copy and no record left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

MUTANTS = {
    "plain_fence": "the fence does not wait for writers in flight",
    "no_catch_up": "decides without waiting for the dirty keys",
    "catch_up_before_fence": "waits for the dirty keys first, fences after",
    "open_before_decide": "opens the target, then decides",
    "blind_decide": "decides without compare-and-set on the record",
    "no_target_lock": "appliers do not lock the target",
    "no_closed_check": "appliers do not look whether the target is closed",
    "closed_check_unlocked": "appliers look whether the target is closed, without FOR SHARE",
    "fence_ignores_record": "fences by the epoch alone, and an abort before the fence keeps the epoch",
    "open_ignores_epoch": "opens the target whatever its epoch",
    "abort_ignores_decision": "aborts without compare-and-set on the record",
    "abort_does_not_reopen": "the abort only marks the record",
    "no_recovery_of_holding": "nobody aborts what a dead coordinator left",
    "no_recovery_of_committed": "nobody opens what a dead coordinator decided",
    "source_commits_first": "appliers commit the source before the target",
    "takes_newer_keys": "an applier empties the queue, also of keys that came after its snapshot",
    "capture_after_commit": "keys are noted in a transaction of their own after the write",
    "record_at_monolith": "the record is always kept by the monolith, also when it is the target",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One database: ownership, two rows (ids of the write they hold), their dirty keys, its cutover record."""

    open: bool
    epoch: int
    rows: tuple[int, int] = (0, 0)
    dirty: tuple[int, int] = (0, 0)
    record: tuple[str, int] | None = None  # status, epoch that the target is to be opened at

    @property
    def holding(self) -> bool:
        return self.record is not None and self.record[0] == "holding"

    @property
    def committed(self) -> bool:
        return self.record is not None and self.record[0] == "committed"


@dataclass(frozen=True, slots=True)
class State:
    """All that can differ. `writers`: None or the database a transaction is open in (writer i writes row i)."""

    sides: tuple[Side, Side]
    writers: tuple[int | None, int | None] = (None, None)
    uncaptured: tuple[int | None, int | None] = (None, None)
    writes_left: tuple[int, int] = (1, 1)
    last: tuple[int, int] = (0, 0)
    appliers: tuple[tuple | None, tuple | None] = (None, None)  # (phase, source, values by row, source alive)
    coordinators: tuple[tuple | None, tuple | None] = (None, None)  # (step, source, epoch)
    recoverer: tuple | None = None  # (source, epoch): read a committed record, about to open
    reopening: tuple | None = None  # record_at_monolith only: an abort in two databases
    cutovers_left: int = 2
    chunks_left: int = 0  # batches that carry a row without a dirty key: a snapshot's chunk, a stuck key tried again


def put(items: tuple, index: int, value: object) -> tuple:
    return (*items[:index], value, *items[index + 1 :])


class Protocol:
    """Every transition of the protocol, or of one mutant of it."""

    def __init__(
        self, mutant: str = "", *, writes: tuple[int, int] = (1, 1), cutovers: int = 2, chunks: int = 0
    ) -> None:
        self.mutant = mutant
        self.writes = writes
        self.cutovers = cutovers
        self.chunks = chunks

    def start(self) -> State:
        return State(
            sides=(Side(open=True, epoch=1), Side(open=False, epoch=0)),
            writes_left=self.writes,
            cutovers_left=self.cutovers,
            chunks_left=self.chunks,
        )

    def next(self, s: State) -> Iterator[tuple[str, State]]:
        yield from self._writers(s)
        yield from self._appliers(s)
        yield from self._coordinators(s)
        yield from self._recovery(s)

    def _writers(self, s: State) -> Iterator[tuple[str, State]]:
        for i in (0, 1):
            db = s.writers[i]
            if s.uncaptured[i] is not None:
                at = s.uncaptured[i]
                side = replace(s.sides[at], dirty=put(s.sides[at].dirty, i, s.last[i]))
                yield (
                    f"w{i} notes its key",
                    replace(s, uncaptured=put(s.uncaptured, i, None), sides=put(s.sides, at, side)),
                )
                yield f"w{i} dies", replace(s, uncaptured=put(s.uncaptured, i, None))
            elif db is None and s.writes_left[i]:
                for at in (0, 1):  # stale routing: either side is tried
                    if s.sides[at].open:
                        left = put(s.writes_left, i, s.writes_left[i] - 1)
                        yield (
                            f"w{i} passes the fence of {at}",
                            replace(s, writers=put(s.writers, i, at), writes_left=left),
                        )
            elif db is not None:
                write = s.last[i] + 1
                side = replace(s.sides[db], rows=put(s.sides[db].rows, i, write))
                after = s.uncaptured
                if self.mutant == "capture_after_commit":
                    after = put(after, i, db)
                else:
                    side = replace(side, dirty=put(side.dirty, i, write))
                yield (
                    f"w{i} commits at {db}",
                    replace(
                        s,
                        writers=put(s.writers, i, None),
                        last=put(s.last, i, write),
                        sides=put(s.sides, db, side),
                        uncaptured=after,
                    ),
                )

    def _locked(self, s: State, target: int) -> bool:
        """Some applier's transaction holds the advisory lock of this target."""
        return any(a is not None and a[0] == "read" and a[1] != target for a in s.appliers)

    def _appliers(self, s: State) -> Iterator[tuple[str, State]]:
        for i in (0, 1):
            a = s.appliers[i]
            if a is None:
                yield from self._applier_begins(s, i)
                continue
            phase, source, read, alive = a
            target = 1 - source
            if phase == "read":
                if alive:
                    died = replace(s, appliers=put(s.appliers, i, ("read", source, read, False)))
                    yield f"a{i} loses its source session", died
                if self.mutant == "source_commits_first":
                    if alive:
                        taken = replace(
                            self._emptied(s, source, read), appliers=put(s.appliers, i, ("late", source, read, False))
                        )
                        yield f"a{i} commits source {source}", taken
                    continue
                written = self._written(s, target, read)
                after = ("applied", source, read, True) if alive else None
                yield f"a{i} commits target {target} {read}", replace(written, appliers=put(s.appliers, i, after))
                yield f"a{i} crashes before it commits", replace(s, appliers=put(s.appliers, i, None))
            elif phase == "late":
                written = self._written(s, target, read)
                yield f"a{i} commits target {target} {read}", replace(written, appliers=put(s.appliers, i, None))
                yield f"a{i} crashes", replace(s, appliers=put(s.appliers, i, None))
            else:
                emptied = self._emptied(s, source, read)
                yield f"a{i} commits source {source}", replace(emptied, appliers=put(s.appliers, i, None))
                yield f"a{i} crashes between commits", replace(s, appliers=put(s.appliers, i, None))

    def _applier_begins(self, s: State, i: int) -> Iterator[tuple[str, State]]:
        for source in (0, 1):
            here, there = s.sides[source], s.sides[1 - source]
            if not any(here.dirty) and not s.chunks_left:
                continue
            if self.mutant != "no_target_lock" and self._locked(s, 1 - source):
                continue
            blocked = any(a is not None and a[1] == source and a[3] and a[0] in ("read", "applied") for a in s.appliers)
            if blocked:  # the other applier's source session holds these dirty rows
                continue
            older = (there.epoch, there.open) < (here.epoch, here.open)
            if self.mutant != "no_closed_check" and (there.open or not older):
                continue
            keys = [k for k in (0, 1) if here.dirty[k]]
            if i == 1:
                keys = keys[:1]  # a catch-up batch, cut short
            read = tuple((k, here.rows[k], here.dirty[k]) for k in keys)
            begun = replace(s, appliers=put(s.appliers, i, ("read", source, read, True)))
            if read:
                yield f"a{i} reads {source} {read}", begun
            if s.chunks_left and i == 0:
                chunk = (*((k, here.rows[k], 0) for k in (0,) if k not in keys), *read)
                begun = replace(begun, appliers=put(s.appliers, i, ("read", source, chunk, True)))
                yield f"a{i} reads {source} {chunk}, a chunk", replace(begun, chunks_left=s.chunks_left - 1)

    def _written(self, s: State, target: int, read: tuple) -> State:
        rows = s.sides[target].rows
        for k, value, _ in read:
            rows = put(rows, k, value)
        return replace(s, sides=put(s.sides, target, replace(s.sides[target], rows=rows)))

    def _emptied(self, s: State, source: int, read: tuple) -> State:
        dirty = s.sides[source].dirty
        for k, _, seen in read:
            if dirty[k] <= seen or (seen and self.mutant == "takes_newer_keys"):
                dirty = put(dirty, k, 0)
        return replace(s, sides=put(s.sides, source, replace(s.sides[source], dirty=dirty)))

    def _record_at(self, source: int) -> int:
        return 0 if self.mutant == "record_at_monolith" else source

    def _with_record(self, s: State, source: int, record: tuple[str, int]) -> State:
        at = self._record_at(source)
        return replace(s, sides=put(s.sides, at, replace(s.sides[at], record=record)))

    def _coordinators(self, s: State) -> Iterator[tuple[str, State]]:
        for i in (0, 1):
            c = s.coordinators[i]
            if c is None:
                if s.cutovers_left:
                    yield from self._intent(s, i)
                continue
            step, source, epoch = c

            def at(state: State, value: tuple | None, i: int = i) -> State:
                return replace(state, coordinators=put(state.coordinators, i, value))

            here = s.sides[source]
            record = s.sides[self._record_at(source)].record
            mine = record == ("holding", epoch)
            yield f"c{i} crashes", at(s, None)
            if step == "intent":
                if self.mutant == "catch_up_before_fence":
                    if not any(here.dirty):
                        yield f"c{i} saw no dirty keys", at(s, ("early", source, epoch))
                    continue
                yield from self._fence(s, i, source, epoch, mine, "fenced")
            elif step == "early":
                yield from self._fence(s, i, source, epoch, mine, "caught up")
            elif step == "fenced":
                if not any(here.dirty) or self.mutant == "no_catch_up":
                    yield f"c{i} caught up", at(s, ("caught up", source, epoch))
            elif step == "caught up":
                if self.mutant == "open_before_decide":
                    yield f"c{i} opens {1 - source}", at(self._opened(s, source, epoch), ("opened", source, epoch))
                elif mine or self.mutant == "blind_decide":
                    decided = self._with_record(s, source, ("committed", epoch))
                    yield f"c{i} decides", at(decided, ("decided", source, epoch))
                else:
                    yield f"c{i} lost its record", at(s, None)
            elif step == "opened":
                if mine:
                    yield f"c{i} decides", at(self._with_record(s, source, ("done", epoch)), None)
                else:
                    yield f"c{i} lost its record", at(s, None)
            elif step == "decided" and self._can_open(s, source):
                yield f"c{i} opens {1 - source}", at(self._opened(s, source, epoch), ("release", source, epoch))
            elif step == "release":
                yield f"c{i} releases", at(self._finished(s, source, epoch), None)

    def _intent(self, s: State, i: int) -> Iterator[tuple[str, State]]:
        for source in (0, 1):
            here = s.sides[source]
            at = s.sides[self._record_at(source)]
            if here.open and not at.holding and not at.committed:
                begun = self._with_record(s, source, ("holding", here.epoch + 1))
                begun = replace(begun, cutovers_left=s.cutovers_left - 1)
                step = ("intent", source, here.epoch + 1)
                yield f"c{i} intends {source}->{1 - source}", replace(begun, coordinators=put(s.coordinators, i, step))

    def _fence(self, s: State, i: int, source: int, epoch: int, mine: bool, then: str) -> Iterator[tuple[str, State]]:
        here = s.sides[source]
        if source in s.writers and self.mutant != "plain_fence":
            return  # waits for transactions in flight
        blind = self.mutant in ("fence_ignores_record", "record_at_monolith") and (
            self.mutant == "fence_ignores_record" or self._record_at(source) != source
        )
        if (mine or blind) and here.open and here.epoch == epoch - 1:
            fenced = replace(s, sides=put(s.sides, source, replace(here, open=False, epoch=epoch)))
            yield f"c{i} fences {source}", replace(fenced, coordinators=put(s.coordinators, i, (then, source, epoch)))
        elif not mine or here.epoch != epoch - 1:
            yield f"c{i} may not fence", replace(s, coordinators=put(s.coordinators, i, None))

    def _can_open(self, s: State, source: int) -> bool:
        """The applier's FOR SHARE on the target's ownership keeps it closed while its transaction lasts."""
        if self.mutant in ("closed_check_unlocked", "no_closed_check"):
            return True
        return not any(a is not None and a[0] in ("read", "late") and a[1] == source for a in s.appliers)

    def _opened(self, s: State, source: int, epoch: int) -> State:
        there = s.sides[1 - source]
        if there.epoch < epoch or self.mutant == "open_ignores_epoch":
            there = replace(there, open=True, epoch=max(epoch, there.epoch))
        return replace(s, sides=put(s.sides, 1 - source, there))

    def _finished(self, s: State, source: int, epoch: int) -> State:
        record = s.sides[self._record_at(source)].record
        return self._with_record(s, source, ("done", epoch)) if record == ("committed", epoch) else s

    def _recovery(self, s: State) -> Iterator[tuple[str, State]]:
        if s.reopening is not None:
            source, epoch = s.reopening
            yield "r crashes between the databases", replace(s, reopening=None)
            side = replace(s.sides[source], open=True, epoch=max(epoch, s.sides[source].epoch))
            yield f"r reopens {source}", replace(s, reopening=None, sides=put(s.sides, source, side))
        for source in (0, 1):
            at = s.sides[self._record_at(source)]
            if self.mutant == "record_at_monolith" and self._owner(s) != source:
                continue
            if self.mutant != "no_recovery_of_holding":
                yield from self._abort(s, source, at)
            if at.committed and s.recoverer is None and self.mutant != "no_recovery_of_committed":
                yield f"r reads committed record of {source}", replace(s, recoverer=(source, at.record[1]))
        if s.recoverer is not None and self._can_open(s, s.recoverer[0]):
            source, epoch = s.recoverer
            opened = self._finished(self._opened(s, source, epoch), source, epoch)
            yield f"r opens {1 - source}", replace(opened, recoverer=None)

    def _owner(self, s: State) -> int:
        return 0 if (s.sides[0].epoch, s.sides[0].open) > (s.sides[1].epoch, s.sides[1].open) else 1

    def _abort(self, s: State, source: int, at: Side) -> Iterator[tuple[str, State]]:
        """One transaction in the source: compare-and-set, epoch past the one that was intended, reopen, unfence."""
        decided = at.committed and self.mutant == "abort_ignores_decision"
        if not (at.holding or decided):
            return
        epoch = at.record[1]
        aborted = self._with_record(s, source, ("aborted", epoch))
        if self.mutant == "record_at_monolith" and source == 1:
            if s.reopening is None:
                yield f"r aborts {source}, half", replace(aborted, reopening=(source, epoch + 1))
            return
        here = aborted.sides[source]
        if self.mutant == "abort_does_not_reopen":
            yield f"r marks {source} aborted", aborted
            return
        if self.mutant == "fence_ignores_record" and here.open:
            yield f"r aborts {source}, epoch unchanged", aborted
            return
        here = replace(here, open=True, epoch=epoch + 1)
        yield f"r aborts {source}", replace(aborted, sides=put(aborted.sides, source, here))
