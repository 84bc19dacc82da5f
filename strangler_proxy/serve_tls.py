"""Keeps a proxy's certificate fresh: on SIGHUP at once, and by a look at the files each second."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Final

import structlog

from strangler_proxy.forward.tls import Certificate

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0


class CertificateWatch:
    """Of one process and one certificate. Nothing that a file holds can stop what is served."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._asked = asyncio.Event()
        self._told = ""

    async def run(self) -> None:
        """Until cancelled."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _LOOK_S)
            if self._asked.is_set() or self._certificate.changed():
                self._asked.clear()
                await self._reload()

    async def _reload(self) -> None:
        try:
            await asyncio.to_thread(self._certificate.reload)
        except OSError as error:
            if str(error) != self._told:
                log.error("tls.certificate_refused", path=str(self._certificate.chain), error=str(error))
            self._told = str(error)
        else:
            self._told = ""
            log.info("tls.certificate_loaded", path=str(self._certificate.chain))


@contextlib.asynccontextmanager
async def watching(certificate: Certificate | None) -> AsyncIterator[None]:
    """Watch a certificate for the length of a block; nothing where there is none."""
    task = None if certificate is None else asyncio.create_task(CertificateWatch(certificate).run())
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
