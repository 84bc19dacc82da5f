"""TLS at the edge: a context whose certificate can change while it serves.

New handshakes use the newest certificate; connections that are open keep theirs. A pair that does not load (a file is
missing, key and certificate do not belong together, a writer was caught between the two) changes nothing: the one
before serves on, and the next look tries again. HTTP/2 is not offered.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

_ALPN: Final = ["http/1.1"]
_Signature = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate chain and its key in PEM files, loaded. `context` is for the listener, for good.

    Raises OSError (`ssl.SSLError` is one) where they do not load.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self.chain = chain
        self.key = key
        self._signature = self._look()
        self._newest = self.context = self._load()
        self.context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<Certificate {self.chain}>"

    def changed(self) -> bool:
        """Are the files others than those in use?"""
        try:
            return self._look() != self._signature
        except OSError:
            return False

    def reload(self) -> None:
        """Use what the files hold now. Raises OSError and changes nothing where they do not load."""
        signature = self._look()
        self._newest = self._load()
        self._signature = signature

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(_ALPN)
        context.load_cert_chain(self.chain, self.key, password=_no_password)
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """Called once a handshake, with or without a server name."""
        connection.context = self._newest

    def _look(self) -> _Signature:
        found = [path.stat() for path in (self.chain, self.key)]
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted; nobody is there to type its password")
