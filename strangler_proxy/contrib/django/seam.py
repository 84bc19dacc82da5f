"""The seam: one call, either origin. Local while this project owns the capability, else remote through the proxy."""

from __future__ import annotations

import logging
from typing import Callable, Generic, Optional, TypeVar, cast

from django.db import connections

from strangler_proxy.contrib import metrics
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.django.ownership import is_owner
from strangler_proxy.contrib.django.recorder import FencedTransaction
from strangler_proxy.contrib.record import FenceRecord, current, effect_happened, recording
from strangler_proxy.contrib.shadow_capture import current as capture_of
from strangler_proxy.core.fence import Replay

Api = TypeVar("Api")
T = TypeVar("T")

logger = logging.getLogger("strangler.seam")


class RemoteInsideTransaction(RuntimeError):
    """A remote call was about to be made inside `atomic`.

    It would hold locks for as long as the network takes, and what it did could not be rolled back. Commit first (the
    work as pending), call, then record the outcome.
    """


class Seam(Generic[Api]):
    """Two implementations of one interface, and the choice between them, made anew for each call.

    >>> parcels = Seam(flag="parcels", local=LocalParcels, remote=RemoteParcels)     # doctest: +SKIP
    >>> parcels.call(lambda api: api.send(parcel_id, key=f"parcel:{parcel_id}"))     # doctest: +SKIP

    `local` and `remote` are called without arguments for each use (a class, or a function that returns an object that
    is kept). The function given to `call` may run twice: on the local side, undone, and then on the remote one.
    """

    def __init__(self, *, flag: str, local: Callable[[], Api], remote: Callable[[], Api]) -> None:
        self.flag = flag
        self._local, self._remote = local, remote

    def __repr__(self) -> str:
        return f"<Seam {self.flag}>"

    def call(self, use: Callable[[Api], T], *, effect: bool = True) -> T:
        """Use the side that serves now.

        A local call that meets the fence with nothing committed, or within `resumable`, is undone and made remotely;
        use the same idempotency key on both sides. If something was committed, or it ran inside an `atomic` of the
        caller's, the fence stands: the request is answered by `FenceMiddleware`. `effect=False` says that the use only
        reads, so that a remote one does not stand in the way of a replay. In a mirrored request of this flag it is a
        local one: this side is asked what it would do as the owner.

        Raises RemoteInsideTransaction for a remote call inside `atomic`.
        """
        outer = current.get()
        if outer is not None and outer.refuses_writes:
            raise FencedTransaction(f"{self!r}: this request met the fence and does no more")
        if not _mirrored(self.flag) and not is_owner(self.flag):
            return self._call_remotely(use, effect, "remote")
        inner = FenceRecord()
        inner.resumable_depth = outer.resumable_depth if outer is not None else 0
        inside_atomic = self._inside_atomic()
        result, error = _attempt(use, self._local, inner)
        if inner.met is None:
            _pass_on(inner, outer)
            if error is not None:
                raise error
            metrics.count_seam_call(flag=self.flag, side="local")
            return cast(T, result)
        reason = self._stands(inner, inside_atomic)
        if reason:
            _pass_on(inner, outer)
            raise FencedTransaction(f"a local call of {self!r} met the fence {reason}") from error
        logger.info("seam.call_moved", extra={"flag": self.flag, "replay": inner.replay().value})
        return self._call_remotely(use, effect, "moved")

    def _stands(self, inner: FenceRecord, inside_atomic: bool) -> str:
        """Why a fenced local call cannot be made remotely instead; empty where it can."""
        assert inner.met is not None
        if inner.met.flag not in (self.flag, ""):
            return f"of {inner.met.flag!r}"
        if inside_atomic:
            return "inside transaction.atomic(), which cannot be undone in part: commit first, then call"
        return "after it had committed a part" if inner.replay() is Replay.NO else ""

    def _inside_atomic(self) -> bool:
        return bool(connections[configuration().database].in_atomic_block)

    def _call_remotely(self, use: Callable[[Api], T], effect: bool, side: str) -> T:
        if self._inside_atomic():
            raise RemoteInsideTransaction(
                f"{self!r}: this side does not own {self.flag!r}, so the call is a remote one, which must not be made"
                " inside transaction.atomic(): commit first, then call"
            )
        if effect:
            effect_happened()
        metrics.count_seam_call(flag=self.flag, side=side)
        return use(self._remote())


def _mirrored(flag: str) -> bool:
    capture = capture_of.get()
    return capture is not None and capture.mirrors and capture.request.flag == flag


def _attempt(
    use: Callable[[Api], T], make: Callable[[], Api], inner: FenceRecord
) -> tuple[Optional[T], Optional[Exception]]:
    """What a local call returned or raised, recorded by itself."""
    try:
        with recording(inner):
            return use(make()), None
    except Exception as error:  # noqa: BLE001  (judged, and raised again, by `call`)
        return None, error


def _pass_on(inner: FenceRecord, outer: Optional[FenceRecord]) -> None:
    """Tell the request's record what a call that stands has done."""
    if outer is None:
        return
    if inner.met is not None and outer.met is None:
        outer.met = inner.met
    for where, times in inner.commits.items():
        outer.commit(where, times)
