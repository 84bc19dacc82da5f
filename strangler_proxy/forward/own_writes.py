"""Who wrote lately: a fixed table of times in memory that all proxies of a host share.

A subject's reads go to the owner for a while after its writes, also when another proxy process gets them. Slots hold
a hash and a time, nothing of the subject itself. A slot's time is written before its hash, so that a race can only
make a time later than it was (a read goes to the owner without need). A subject that is new gets its slot under a lock
of its bucket, so that two processes never take the same one; the lock is tried a few times and never waited for,
because a process that is stopped may hold it. A full bucket forgets its oldest entry.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import xxhash

_BUCKETS: Final = 8_192
_WAYS: Final = 8
_SLOT_WORDS: Final = 2
_BYTES: Final = _BUCKETS * _WAYS * _SLOT_WORDS * 8
_TRIES: Final = 3
_LOCK_TRIES: Final = 50
_PLACES_KEPT: Final = 8_192


class OwnWrites:
    """Last time of an unsafe request by flag and subject, in Unix seconds of the control database's clock.

    `path` is a file of 1 MiB that is made if it is not there; None keeps the times in this process.

    >>> own = OwnWrites(None)
    >>> own.note("f", "ada", 12.5)
    >>> own.wrote_at("f", "ada"), own.wrote_at("f", "bob")
    (12.5, 0.0)
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else _open(path)
        self._memory = mmap.mmap(-1 if self._file is None else self._file, _BYTES)
        self._view = memoryview(self._memory)
        self._hashes = self._view.cast("Q")
        self._times = self._view.cast("d")
        self._places: dict[tuple[str, str], tuple[int, int, bytes]] = {}

    def note(self, flag: str, subject: str, at: float) -> None:
        """This subject wrote at that time; an earlier time than the known one changes nothing."""
        key, first, _ = self._place(flag, subject)
        for _ in range(_TRIES):
            slot = self._slot(key, first)
            if self._hashes[slot] != key:
                with self._locked(first):
                    slot = self._slot(key, first)
                    self._times[slot + 1] = at
                    self._hashes[slot] = key
            elif self._times[slot + 1] < at:
                self._times[slot + 1] = at
            if self._hashes[slot] == key and self._times[slot + 1] >= at:
                return

    def wrote_at(self, flag: str, subject: str) -> float:
        """When this subject wrote last, 0.0 if it is not known to have."""
        key, first, raw = self._place(flag, subject)
        if self._memory.find(raw, first * 8, (first + _WAYS * _SLOT_WORDS) * 8) < 0:
            return 0.0
        hashes = self._hashes
        for slot in range(first, first + _WAYS * _SLOT_WORDS, _SLOT_WORDS):
            if hashes[slot] == key:
                return self._times[slot + 1]
        return 0.0

    def close(self) -> None:
        """Let go of the memory; the file stays."""
        self._hashes.release()
        self._times.release()
        self._view.release()
        self._memory.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def _locked(self, first: int) -> Iterator[None]:
        """No other process takes a slot of this bucket meanwhile, unless one that is stopped holds the lock."""
        if self._file is None:
            yield
            return
        held = False
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, first * 8)
                held = True
                break
            except BlockingIOError:
                os.sched_yield()
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, first * 8)

    def _place(self, flag: str, subject: str) -> tuple[int, int, bytes]:
        """Hash, first word of its bucket, and the hash as it lies in memory; worked out once for a subject."""
        found = self._places.get((flag, subject))
        if found is None:
            if len(self._places) >= _PLACES_KEPT:
                self._places.clear()
            found = self._places[flag, subject] = _place(flag, subject)
        return found

    def _slot(self, key: int, first: int) -> int:
        """Where the key is, else an empty slot, else the oldest."""
        oldest, oldest_at = first, float("inf")
        for slot in range(first, first + _WAYS * _SLOT_WORDS, _SLOT_WORDS):
            known = self._hashes[slot]
            if known == key:
                return slot
            at = self._times[slot + 1] if known else -1.0
            if at < oldest_at:
                oldest, oldest_at = slot, at
        return oldest


def _place(flag: str, subject: str) -> tuple[int, int, bytes]:
    key = xxhash.xxh64_intdigest(f"{flag}\0{subject}".encode("utf-8", "surrogateescape")) or 1
    return key, (key % _BUCKETS) * _WAYS * _SLOT_WORDS, key.to_bytes(8, sys.byteorder)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if os.fstat(file).st_size < _BYTES:
        os.ftruncate(file, _BYTES)  # another proxy may do the same at once: the new bytes are zero for both
    return file
