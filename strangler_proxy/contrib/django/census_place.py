"""Where in a project code is running: file and line, and the view, task or command that it runs for."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from django.conf import settings
from django.core.management.base import BaseCommand
from django.http import HttpRequest

from strangler_proxy.contrib.shadow_capture import current as current_capture

MAX_CHARS = 200
_MAX_FRAMES = 300
_SHELLS = frozenset({"shell", "shell_plus", "dbshell"})
_PROGRAMS = frozenset({"manage.py", "django-admin", "django-admin.py"})
_OURS = Path(__file__).resolve().parents[2]
_PACKAGES = frozenset({"site-packages", "dist-packages"})
_COMMAND_CODE = BaseCommand.execute.__code__

_request: ContextVar[Optional[HttpRequest]] = ContextVar("strangler_census_request", default=None)


@dataclass(frozen=True)
class Whereabouts:
    """One place of a project; the words of `strangler.census`."""

    kind: str
    """`view`, `admin`, `task`, `command`, `shell`, `other`; `mirror`: a request that only shadow mode has sent."""
    name: str
    place: str
    """`FILE:LINE` of the innermost frame that is the project's own; empty where none is."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.place})" if self.place else "")


@contextmanager
def handling(request: HttpRequest) -> Iterator[None]:
    """Within it, code runs for this request, in threads of `sync_to_async` too."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def whereabouts() -> Whereabouts:
    """Where the caller's caller is. Walks the stack: for statements that matter only (some microseconds)."""
    kind, name = _started_by()
    place, command = _on_the_stack(sys._getframe(1), stop_at_place=bool(kind))
    if not kind:
        kind, name = _program(command)
    return Whereabouts(kind, name[:MAX_CHARS], place[-MAX_CHARS:])


def _started_by() -> tuple[str, str]:
    """The task or request under way; a request that shadow mode mirrors is its own kind."""
    task: Any = getattr(sys.modules.get("celery"), "current_task", None)
    if task:
        return "task", str(task.name)
    request = _request.get()
    if request is None:
        return "", ""
    kind, name = _view(request)
    capture = current_capture.get()
    return ("mirror" if capture is not None and capture.mirrors else kind), name


def _view(request: HttpRequest) -> tuple[str, str]:
    match = request.resolver_match
    if match is None:
        return "view", "(no view yet: middleware)"
    view = match.view_name or ""
    if "admin" in match.app_names:
        return "admin", view
    return "view", f"{view} /{match.route or ''}"


def _on_the_stack(frame: Optional[FrameType], *, stop_at_place: bool) -> tuple[str, str]:
    """Innermost place of the project's own, and the management command that runs further out."""
    place = ""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        code = frame.f_code
        if code is _COMMAND_CODE:
            return place, type(frame.f_locals["self"]).__module__.rpartition(".")[2]
        if not place:
            file = _project_file(code.co_filename)
            if file is not None:
                place = f"{file}:{frame.f_lineno}"
                if stop_at_place:
                    break
        frame = frame.f_back
    return place, ""


def _program(command: str) -> tuple[str, str]:
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    if not command and program in _PROGRAMS and len(sys.argv) > 1:
        command = sys.argv[1]  # a thread that a command started
    if command in _SHELLS or hasattr(sys, "ps1"):
        return "shell", command or "python"
    return ("command", command) if command else ("other", program or "python")


@lru_cache(maxsize=4096)
def _project_file(file_name: str) -> Optional[str]:
    """The file by its path within the project; None for Python's, installed packages' and the toolkit's own."""
    if file_name.startswith("<"):
        return None
    path = Path(file_name).resolve()
    root, package = _root()
    if _OURS in path.parents:
        return None
    if root in path.parents:
        inner = path.relative_to(root)
        # a project that is installed itself lies beside its libraries
        own = inner.parts[0] == package if _installed(root) else not _installed(inner)
        return str(inner) if own else None
    if _installed(path) or any(library in path.parents for library in _libraries()):
        return None
    return _by_import_path(path)


def _installed(path: Path) -> bool:
    return not _PACKAGES.isdisjoint(path.parts)


@lru_cache(maxsize=1)
def _libraries() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})


@lru_cache(maxsize=1)
def _root() -> tuple[Path, str]:
    """The folder that holds the settings module's top package, and that package's name."""
    name = (getattr(settings, "SETTINGS_MODULE", "") or "").partition(".")[0]
    module = sys.modules.get(name)
    paths = list(getattr(module, "__path__", ()))
    if paths:
        return Path(paths[0]).resolve().parent, name
    file = getattr(module, "__file__", None)
    return (Path(file).resolve().parent if file else Path.cwd()), name


def _by_import_path(path: Path) -> str:
    roots = [root for root in (Path(entry).resolve() for entry in sys.path) if root in path.parents]
    return str(path.relative_to(max(roots, key=lambda root: len(root.parts)))) if roots else str(path)
