"""The fence as it is said on the wire: SQLSTATE, header, and what may be done about it.

Plain Python 3.9 and standard library only: `contrib.django` ships this to older stacks.
Specified in docs/reference/wire.md.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

FENCE_SQLSTATE = "MF001"
"""Raised by the database that is not the owner."""

FENCE_HEADER = "X-Strangler-Fence"
REPLAY_HEADER = "X-Strangler-Replay"
FENCE_STATUS = 409
"""For the proxy only; a client never sees a fenced answer."""

_FLAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")


class Replay(enum.Enum):
    """What the proxy may do with a request that met the fence."""

    SAFE = "safe"  # nothing was committed: send it again to the owner
    RESUME = "resume"  # an effect may have happened: the owner goes on from the recorded state
    NO = "no"  # something was committed that cannot be gone on from: 503 to the client


@dataclass(frozen=True)
class FenceAnswer:
    """A refused write, as the origin reports it.

    `epoch` is the epoch of the last grant known there, `owner` the last owner known there
    (`monolith` or `extracted`).

    >>> FenceAnswer(flag="payments", epoch=4, owner="extracted", replay=Replay.SAFE).encode()
    'flag=payments; epoch=4; owner=extracted; replay=safe'
    """

    flag: str
    epoch: int
    owner: str
    replay: Replay

    def encode(self) -> str:
        """The value of the `X-Strangler-Fence` header."""
        return f"flag={self.flag}; epoch={self.epoch}; owner={self.owner}; replay={self.replay.value}"

    @classmethod
    def parse(cls, value: str) -> FenceAnswer | None:
        """Read a header value; None where it is not one (an upstream may send anything).

        >>> FenceAnswer.parse("flag=payments; epoch=4; owner=extracted; replay=no").replay
        <Replay.NO: 'no'>
        >>> FenceAnswer.parse("epoch=many") is None
        True
        """
        fields = {}
        for part in value.split(";"):
            name, _, text = part.strip().partition("=")
            fields[name] = text
        try:
            flag, epoch, owner = fields["flag"], fields["epoch"], fields["owner"]
            replay = Replay(fields["replay"])
        except (KeyError, ValueError):
            return None
        if not _FLAG.match(flag) or owner not in ("monolith", "extracted"):
            return None
        if not (epoch.isascii() and epoch.isdigit() and len(epoch) <= 18):
            return None
        return cls(flag=flag, epoch=int(epoch), owner=owner, replay=replay)
