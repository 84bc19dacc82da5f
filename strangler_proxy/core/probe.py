"""Active probes: what is asked, and when enough answers make an endpoint unwell, or well again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePolicy:
    """GET `path` each `interval_s` from every proxy process; 2xx within `timeout_s` is well.

    An endpoint is unwell after `unwell` bad answers in a row, and well again after `well` good ones.
    """

    path: str
    interval_s: float = 5.0
    timeout_s: float = 1.0
    unwell: int = 3
    well: int = 2


class Probed:
    """What probes say of one endpoint. It is well until they say otherwise.

    >>> probed = Probed()
    >>> [probed.note(False, ProbePolicy(path="/", unwell=2)) for _ in range(3)], probed.is_well
    ([False, True, False], False)
    """

    __slots__ = ("_against", "is_well")

    def __init__(self) -> None:
        self.is_well = True
        self._against = 0

    def __repr__(self) -> str:
        return f"<Probed {'well' if self.is_well else 'unwell'} against={self._against}>"

    def note(self, good: bool, policy: ProbePolicy) -> bool:
        """Take in one answer; True where the endpoint became unwell, or well, with it."""
        if good is self.is_well:
            self._against = 0
            return False
        self._against += 1
        if self._against < (policy.unwell if self.is_well else policy.well):
            return False
        self.is_well = good
        self._against = 0
        return True
