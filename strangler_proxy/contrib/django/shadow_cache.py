"""Django's caches in a marked request: writes of a mirrored one go to a layer of its own, above the real cache.

Reads of the same request see them; the real cache never does, so that sessions, rate limits and counters kept in it
stay as they were. A method beyond Django's cache API (a lock, a pattern delete) is refused in a mirrored request,
unless it is known to read only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
from typing import Any, Callable, Optional

from django.core.cache import CacheHandler, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.shadow_capture import current, refusal

READ_ONLY = frozenset({"iter_keys", "keys", "make_pattern", "pttl", "reverse_key", "ttl"})
"""Methods beyond Django's API that a mirrored request may use: django-redis' own, which change nothing."""

_MISSING = object()
_GONE = b""
"""What the layer holds for a deleted key: nothing that pickles is empty."""
_SESSIONS = "django.contrib.sessions."
_MARK = "_strangler_captures"
_UNTOUCHED = frozenset({"make_key", "make_and_validate_key", "validate_key", "get_backend_timeout", "close", "aclose"})


class Layer:
    """What one mirrored request has written to one cache: pickled values by full key."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.cleared = False

    def __repr__(self) -> str:
        return f"<Layer keys={len(self.values)} cleared={self.cleared}>"


class CapturedCache:
    """Mixin before a cache backend's class: the operations that all others are made of."""

    strangler_alias = ""

    def get(self, key: Any, default: Any = None, version: Optional[int] = None, **options: Any) -> Any:
        """See Django."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return parent.get(key, default, version=version, **options)
        held = layer.values.get(self._full(key, version))
        if held is not None:
            return default if held == _GONE else pickle.loads(held)
        return default if layer.cleared else parent.get(key, default, version=version, **options)

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None, **options: Any
    ) -> Any:
        """See Django. What a backend offers beyond (`nx` of django-redis) is refused in a mirrored request."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return self.strangler_noted("set", key, value, lambda: parent.set(key, value, timeout, version, **options))
        if options:
            raise refusal(f"cache.set with {', '.join(sorted(options))}")
        return self.strangler_noted("set", key, value, lambda: self._put(layer, key, value, timeout, version))

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """See Django."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return bool(self.strangler_noted("add", key, value, lambda: parent.add(key, value, timeout, version)))
        if self.get(key, _MISSING, version=version) is not _MISSING:
            return False
        self._put(layer, key, value, timeout, version)
        return bool(self.strangler_noted("add", key, value, lambda: True))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """See Django."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return bool(parent.touch(key, timeout, version))
        value = self.get(key, _MISSING, version=version)
        if value is _MISSING:
            return False
        self._put(layer, key, value, timeout, version)
        return True

    def delete(self, key: Any, version: Optional[int] = None) -> Any:
        """See Django."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return self.strangler_noted("delete", key, None, lambda: parent.delete(key, version=version))
        there = self.get(key, _MISSING, version=version) is not _MISSING
        layer.values[self._full(key, version)] = _GONE
        return self.strangler_noted("delete", key, None, lambda: there)

    def clear(self) -> Any:
        """See Django."""
        parent: Any = super()
        layer = self.strangler_layer()
        if layer is None:
            return self.strangler_noted("clear", "", None, parent.clear)
        layer.values.clear()
        layer.cleared = True
        return self.strangler_noted("clear", "", None, lambda: None)

    def strangler_layer(self) -> Optional[Layer]:
        """The layer of the mirrored request under way; None outside of one."""
        capture = current.get()
        if capture is None or not capture.mirrors:
            return None
        layer: Layer = capture.kept(("cache", self.strangler_alias), Layer)
        return layer

    def strangler_noted(self, operation: str, key: Any, value: Any, run: Callable[[], Any]) -> Any:
        """Run, and note the operation where it did something and is no part of another one."""
        capture = current.get()
        if capture is None:
            return run()
        with capture.outermost("cache") as outermost:
            result = run()
        failed = operation == "add" and not result
        if outermost and not failed and configuration().shadow_cache_effects and not str(key).startswith(_SESSIONS):
            written = "set" if operation == "add" else operation
            detail = {"alias": self.strangler_alias, "operation": written, "key": str(key), "value": _shown(value)}
            capture.note("cache", detail)
        return result

    def _full(self, key: Any, version: Optional[int]) -> str:
        backend: Any = self
        return str(backend.make_key(key, version=version))

    def _put(self, layer: Layer, key: Any, value: Any, timeout: Any, version: Optional[int]) -> None:
        gone = timeout is not DEFAULT_TIMEOUT and timeout is not None and timeout <= 0
        layer.values[self._full(key, version)] = _GONE if gone else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


_classes: dict[type, type] = {}
"""By the backend's class, which is of a project's settings: a handful."""


def install() -> None:
    """Have every cache that is made from now on captured, and those of this thread. Safe to repeat."""
    create = CacheHandler.create_connection
    if not getattr(create, _MARK, False):

        @functools.wraps(create)
        def created(self: CacheHandler, alias: str) -> Any:
            return _captured(create(self, alias), alias)

        setattr(created, _MARK, True)
        CacheHandler.create_connection = created  # type: ignore[method-assign]
    for alias in caches:
        if hasattr(caches._connections, alias):  # type: ignore[attr-defined]
            _captured(caches[alias], alias)


def _captured(cache: Any, alias: str) -> Any:
    if not isinstance(cache, CapturedCache):
        cache.__class__ = _capturing(type(cache))
        cache.strangler_alias = alias
    return cache


def _capturing(backend: type) -> type:
    """The backend's class with its writes captured; what it has beyond Django's API refused."""
    if backend not in _classes:
        _classes[backend] = _made(backend)
    return _classes[backend]


def _made(backend: type) -> type:
    members: dict[str, Any] = {}
    for name in dir(backend):
        native = getattr(backend, name)
        if name in vars(CapturedCache) or name in _UNTOUCHED or not callable(native) or isinstance(native, type):
            continue
        generic = getattr(BaseCache, name, None)
        if generic is None and not name.startswith("_") and name not in READ_ONLY:
            members[name] = _refusing(name, native)
        elif generic is not None and generic is not native and not name.startswith("_"):
            members[name] = _generic(name, native, generic)
    return type(f"Captured{backend.__name__}", (CapturedCache, backend), members)


def _generic(name: str, native: Any, generic: Any) -> Any:
    """Django's own form of an operation, made of the captured ones, in place of the backend's shortcut."""

    @functools.wraps(native)
    def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.strangler_layer() is not None:
            return generic(self, *args, **kwargs)
        capture = current.get()
        if capture is None or name not in _TOLD:
            return native(self, *args, **kwargs)
        if name == "delete_many" and args:
            args = (list(args[0]), *args[1:])
        with capture.outermost("cache") as outermost:
            result = native(self, *args, **kwargs)
        if outermost:
            for written, key, value in _TOLD[name](args, kwargs, result):
                self.strangler_noted(written, key, value, lambda: None)
        return result

    return operation


Told = Callable[[tuple[Any, ...], dict[str, Any], Any], list[tuple[str, Any, Any]]]


def _counted(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[tuple[str, Any, Any]]:
    return [("set", args[0] if args else kwargs["key"], result)]


def _many_set(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[tuple[str, Any, Any]]:
    return [("set", key, value) for key, value in (args[0] if args else kwargs["data"]).items()]


def _many_deleted(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[tuple[str, Any, Any]]:
    return [("delete", key, None) for key in (args[0] if args else kwargs["keys"])]


_TOLD: dict[str, Told] = {"incr": _counted, "decr": _counted, "set_many": _many_set, "delete_many": _many_deleted}
"""What the shortcuts of a backend have written, for a request whose effects are recorded."""


def _refusing(name: str, native: Any) -> Any:
    @functools.wraps(native)
    def operation(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.strangler_layer() is not None:
            raise refusal(f"cache.{name}")
        return native(self, *args, **kwargs)

    return operation


def _shown(value: Any) -> Any:
    """The value where it is JSON, else what stands for it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raw = pickle.dumps(value, 4)
        return {"type": type(value).__name__, "sha256": hashlib.sha256(raw).hexdigest()}
    return value
