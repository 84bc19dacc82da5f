"""Content codings that need a library: br and zstd, where the extra `shadow` is installed.

Without it a body in such a coding is not decodable here, and its pair is inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strangler_proxy.core.decoding import BrokenCoding, TooMuch, Undo

_STEP: Final = 64 * 1024
_FRAMES: Final = 1_000
_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""RFC 8878 3.1.1.1.2: decoders need not support larger windows, and RFC 9659 forbids them for content codings."""


def known() -> Mapping[str, Undo]:
    """What undoes further codings, by name; empty where no library is there."""
    found: dict[str, Undo] = {}
    brotli = _brotli()
    if brotli is not None:
        found["br"] = brotli
    zstd = _zstd()
    if zstd is not None:
        found["zstd"] = zstd
    return found


def _brotli() -> Undo | None:
    try:
        import brotli
    except ImportError:
        return None

    def undo(body: bytes, limit: int) -> bytes:
        machine = brotli.Decompressor()
        out: list[bytes] = []
        size = 0
        try:
            piece = machine.process(body, output_buffer_limit=_STEP)
            while True:
                size += len(piece)
                if size > limit:
                    raise TooMuch
                out.append(piece)
                if machine.is_finished():
                    break
                if not piece and machine.can_accept_more_data():
                    raise BrokenCoding("it ends too early")
                piece = machine.process(b"", output_buffer_limit=_STEP)
        except brotli.error as error:
            raise BrokenCoding(str(error)[:80]) from error
        return b"".join(out)

    return undo


def _zstd() -> Undo | None:
    try:
        import zstandard
    except ImportError:
        return None

    def undo(body: bytes, limit: int) -> bytes:
        machine = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        try:
            with machine.stream_reader(body, read_across_frames=True) as reader:
                out = reader.read(limit + 1)
                if len(out) > limit:
                    raise TooMuch
        except zstandard.ZstdError as error:
            raise BrokenCoding(str(error)[:80]) from error
        if not _is_whole(body):
            raise BrokenCoding("it ends too early")
        return bytes(out)

    def _is_whole(body: bytes) -> bool:
        for _ in range(_FRAMES):
            if not body:
                return True
            machine = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
            machine.decompress(body)
            if not machine.eof:
                return False
            body = machine.unused_data
        raise BrokenCoding(f"more than {_FRAMES} frames")

    return undo
