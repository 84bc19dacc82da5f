"""A reservoir: of every kind of comparison some are kept, each as likely as any other, in bounded space."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Slot:
    offered: int = 0
    ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reservoir:
    """Which samples are kept, by slot (Vitter's algorithm R for each). A sample may be in several slots.

    `size` samples a slot, `limit` in all: when that is reached, new slots stay empty. `below(n)` gives a random whole
    number from 0 to n - 1.
    """

    below: Callable[[int], int]
    size: int = 4
    limit: int = 20_000
    _slots: dict[Hashable, _Slot] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._uses)

    def offer(self, sample_id: str, slots: Iterable[Hashable]) -> tuple[set[Hashable], list[str]]:
        """Offer a comparison to slots: in which it is kept now, and the ids that are in none any more."""
        into: set[Hashable] = set()
        gone: list[str] = []
        for name in slots:
            slot = self._slots.get(name)
            if slot is None:
                if len(self._uses) >= self.limit:
                    continue
                slot = self._slots[name] = _Slot()
            slot.offered += 1
            if len(slot.ids) < self.size:
                slot.ids.append(sample_id)
            elif (place := self.below(slot.offered)) < self.size:
                gone += self._let_go(slot.ids[place])
                slot.ids[place] = sample_id
            else:
                continue
            into.add(name)
            self._uses[sample_id] = self._uses.get(sample_id, 0) + 1
        return into, [each for each in gone if each != sample_id and each not in self._uses]

    def _let_go(self, sample_id: str) -> list[str]:
        left = self._uses.get(sample_id, 0) - 1
        if left > 0:
            self._uses[sample_id] = left
            return []
        self._uses.pop(sample_id, None)
        return [sample_id]
