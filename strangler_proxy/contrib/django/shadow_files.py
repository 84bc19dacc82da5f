"""Files that a marked request saves or deletes through Django's storages, and sessions kept in files.

In a mirrored request a saved file is kept in memory: `open`, `exists` and `size` of the same request find it, the
storage never sees it. Opening a file of a storage for writing is refused. Plain `open()` of Python is not seen: keep
such code out of shadow mode.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import Any, Optional

from django.contrib.sessions.backends import file as file_sessions
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage

from strangler_proxy.contrib.shadow_capture import Capture, current, refusal

_MARK = "_strangler_captures"
_READING = frozenset({"r", "rb", "rt"})

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Of one file that a mirrored request saves: it is held in memory."""


class Shelf:
    """What one mirrored request has saved in one storage (by name), and deleted (None)."""

    def __init__(self) -> None:
        self.files: dict[str, Optional[bytes]] = {}

    def __repr__(self) -> str:
        return f"<Shelf files={len(self.files)}>"


def install() -> None:
    """Wrap the storages that are loaded, and file sessions. Safe to repeat: a storage loaded later is found then."""
    _wrap(Storage, "save", _save)
    _wrap(Storage, "open", _open)
    for storage in (FileSystemStorage, *_subclasses(Storage)):
        for name, how in (("save", _save), ("open", _open), ("delete", _delete), ("exists", _exists), ("size", _size)):
            if name in vars(storage):
                _wrap(storage, name, how)
    _wrap(file_sessions.SessionStore, "save", _save_session)
    _wrap(file_sessions.SessionStore, "delete", _delete_session)


def wrapped(storage: type) -> bool:
    """Does this class capture what it is given to save and delete?"""
    return all(getattr(getattr(storage, name, None), _MARK, False) for name in ("save", "delete"))


def _subclasses(parent: type) -> Iterable[type]:
    children: list[type] = parent.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _wrap(owner: Any, name: str, how: Any) -> None:
    native = getattr(owner, name)
    if getattr(native, _MARK, False):
        return

    @functools.wraps(native)
    def captured(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None:
            return native(self, *args, **kwargs)
        return how(capture, native, self, *args, **kwargs)

    setattr(captured, _MARK, True)
    setattr(owner, name, captured)


def _save(
    capture: Capture, native: Any, storage: Any, name: Optional[str], content: Any, max_length: Optional[int] = None
) -> str:
    if not capture.mirrors:
        with capture.outermost("file") as outermost:  # a storage that hands on to another saves once
            digest = _digest(content) if outermost else {}
            saved = str(native(storage, name, content, max_length=max_length))
        if outermost:
            capture.note("file", {"operation": "save", "name": saved, **digest})
        return saved
    file = content if hasattr(content, "chunks") else File(content, name)
    body = b"".join(_bytes(chunk) for chunk in _bounded(file))
    chosen = str(storage.get_available_name(name or content.name, max_length=max_length))
    _shelf(capture, storage)[chosen] = body
    capture.note("file", {"operation": "save", "name": chosen, **_described(len(body), hashlib.sha256(body))})
    return chosen


def _open(capture: Capture, native: Any, storage: Any, name: str, mode: str = "rb") -> Any:
    if not capture.mirrors:
        return native(storage, name, mode)
    if mode not in _READING:
        raise refusal(f"opening a file of a storage with mode {mode!r}")
    shelf = _shelf(capture, storage)
    if str(name) not in shelf:
        return native(storage, name, mode)
    body = _there(shelf, name)
    return ContentFile(body if "b" in mode else body.decode(), name=name)


def _delete(capture: Capture, native: Any, storage: Any, name: str) -> None:
    if capture.mirrors:
        _shelf(capture, storage)[str(name)] = None
        outermost = True
    else:
        with capture.outermost("file") as outermost:
            native(storage, name)
    if outermost:
        capture.note("file", {"operation": "delete", "name": str(name)})


def _exists(capture: Capture, native: Any, storage: Any, name: str) -> bool:
    shelf = _shelf(capture, storage) if capture.mirrors else {}
    return shelf[str(name)] is not None if str(name) in shelf else bool(native(storage, name))


def _size(capture: Capture, native: Any, storage: Any, name: str) -> int:
    shelf = _shelf(capture, storage) if capture.mirrors else {}
    return len(_there(shelf, name)) if str(name) in shelf else int(native(storage, name))


def _save_session(capture: Capture, native: Any, session: Any, must_create: bool = False) -> None:
    if not capture.mirrors:
        native(session, must_create=must_create)
    elif session.session_key is None:
        session._session_key = session._get_new_session_key()


def _delete_session(capture: Capture, native: Any, session: Any, session_key: Optional[str] = None) -> None:
    if not capture.mirrors:
        native(session, session_key)


def _shelf(capture: Capture, storage: Any) -> dict[str, Optional[bytes]]:
    shelf: Shelf = capture.kept(("files", id(storage)), Shelf)
    return shelf.files


def _there(shelf: dict[str, Optional[bytes]], name: str) -> bytes:
    body = shelf[str(name)]
    if body is None:
        raise FileNotFoundError(name)
    return body


def _bounded(file: Any) -> Iterable[Any]:
    size = 0
    for chunk in file.chunks():
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise refusal(f"a file of more than {MAX_FILE_BYTES} bytes")
        yield chunk


def _digest(content: Any) -> dict[str, Any]:
    """Size and hash of what will be saved, read ahead where it can be read twice."""
    if not hasattr(content, "chunks") or not hasattr(content, "seek"):
        return {}
    size, digest = 0, hashlib.sha256()
    for chunk in content.chunks():
        size += len(_bytes(chunk))
        digest.update(_bytes(chunk))
    content.seek(0)
    return _described(size, digest)


def _described(size: int, digest: Any) -> dict[str, Any]:
    return {"bytes": size, "sha256": digest.hexdigest()}


def _bytes(chunk: Any) -> bytes:
    return chunk.encode() if isinstance(chunk, str) else bytes(chunk)
