"""The audit chain: every entry's hash covers the hash before it, so that an edit, a gap or a swap shows.

hash = sha256(previous hash, line feed, canonical JSON of all other fields). The state row names count and head, so that
a cut end shows as well. Whoever can rewrite entries, all later hashes and the state row leaves no trace here: export
the head to another place where that matters.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Mapping

from strangler_proxy.core.ports import AuditEntry, AuditVerdict
from strangler_proxy.store.documents import time_text


def next_entry(
    *,
    count: int,
    head: str,
    at: dt.datetime,
    actor: str,
    verb: str,
    subject: str,
    reason: str,
    before: Mapping[str, object],
    after: Mapping[str, object],
    revision: int,
) -> AuditEntry:
    """The entry that follows on `count` entries of which the last one hashed to `head`."""
    bare = AuditEntry(
        id=count + 1,
        at=at,
        actor=actor,
        verb=verb,
        subject=subject,
        reason=reason,
        before=before,
        after=after,
        revision=revision,
        previous_hash=head,
        hash="",
    )
    return dataclasses.replace(bare, hash=hash_of(bare))


def hash_of(entry: AuditEntry) -> str:
    """The hash that an entry must have, from its other fields."""
    said = {name: value for name, value in _fields(entry).items() if name not in ("hash", "previous_hash", "at")}
    text = json.dumps(
        {**said, "at": time_text(entry.at)}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(f"{entry.previous_hash}\n{text}".encode()).hexdigest()


def _fields(entry: AuditEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in AuditEntry.__slots__}


class Walk:
    """Checks entries one after the other from the first; stops at the first that does not fit."""

    def __init__(self) -> None:
        self.count = 0
        self.head = ""
        self.problem = ""

    def take(self, entry: AuditEntry) -> bool:
        """Does the next entry fit? After False the walk is over."""
        wanted = self.count + 1
        if entry.id != wanted:
            self.problem = f"entry {wanted} is missing (found {entry.id})"
        elif entry.previous_hash != self.head:
            self.problem = f"entry {entry.id} does not follow on the entry before it"
        elif entry.hash != hash_of(entry):
            self.problem = f"entry {entry.id} was changed after it was written"
        else:
            self.count, self.head = entry.id, entry.hash
        return not self.problem

    def verdict(self, *, count: int, head: str) -> AuditVerdict:
        """What was found, against the count and head that the state row names."""
        if not self.problem and self.count < count:
            self.problem = f"entries {self.count + 1} to {count} are missing"
        elif not self.problem and self.head != head:
            self.problem = f"entry {self.count} is not the one that was written last"
            return AuditVerdict(entries=self.count, broken_at=self.count, problem=self.problem)
        broken_at = self.count + 1 if self.problem else None
        return AuditVerdict(entries=self.count, broken_at=broken_at, problem=self.problem)
