"""The ownership record beside the data, as an application reads it, and what it says after a met fence.

Plain Python 3.9 and standard library only. Specified in docs/reference/wire.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from strangler_proxy.core.fence import FenceAnswer, Replay

RECORD_EXISTS = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'strangler' AND c.relname = 'ownership')"
)
"""Asked of the catalogue, which needs no right and never fails a transaction, as reading a missing table would."""

_COLUMNS = "SELECT flag, origin, owner, epoch, open FROM strangler.ownership WHERE flag = "
READ_RECORD = _COLUMNS + "%s"
READ_RECORD_NUMBERED = _COLUMNS + "$1"
"""The same with libpq's own placeholder."""


@dataclass(frozen=True)
class OwnershipRecord:
    """One row of `strangler.ownership`."""

    flag: str
    origin: str
    """Whose database this is: `monolith` or `extracted`."""
    owner: str
    """Last owner known here."""
    epoch: int
    open: bool

    @property
    def may_write(self) -> bool:
        """May the application write here? The fence is what decides; this only spares it the error."""
        return self.open and self.owner == self.origin

    def fence(self, replay: Replay) -> FenceAnswer:
        """What to tell the proxy of a fence that this request met.

        Where the record is open here again (the cutover was aborted, or the writer came back, between the refused
        write and this read) the fence that was met belongs to an older grant. Told with the epoch of the newest, it
        would teach the proxy that the *other* side owns that epoch, and no row of the table could correct it.

        >>> OwnershipRecord("f", "monolith", "monolith", 6, True).fence(Replay.SAFE).epoch
        5
        """
        epoch = self.epoch - 1 if self.may_write else self.epoch
        return FenceAnswer(flag=self.flag, epoch=max(epoch, 0), owner=self.owner, replay=replay)
