"""How often does a function commit? Read from its source: a heuristic, for `write_checks`.

A commit is a write outside of `transaction.atomic`, or an outermost `atomic` that holds one; of branches the worst
counts, a loop counts twice, what is within `record.resumable` does not count. Followed are calls within the project, a
few levels deep. Not seen: writes behind names that are only known at run time, signals, and what libraries do.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Optional

from django.db import transaction

from strangler_proxy.contrib.record import may_write

DEPTH = 3
"""Levels of calls that are followed."""
MOST = 6
"""Places that are kept; more say nothing new."""

_BY_KEYWORDS = frozenset({"save", "create", "update", "delete", "get_or_create", "update_or_create"})
"""Django's methods that take no positional argument in practice; those of caches, storages and dicts do."""
_BULK = frozenset({"bulk_create", "bulk_update"})
_SQL = frozenset({"execute", "executemany"})
_OF_GENERIC_VIEWS = frozenset({"form_valid", "perform_create", "perform_update", "perform_destroy"})
_KEPT_ELSEWHERE = frozenset({"session", "cache"})

Places = tuple[str, ...]
"""`FILE:LINE` of each commit on a path, in order."""
Path = tuple[Places, bool]
"""A way through some statements, and whether it ends the function."""


@lru_cache(maxsize=1)
def _libraries() -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    return tuple(f"{path}/" for path in paths if path)


def of_project(function: Any) -> bool:
    """Is its source the project's own, rather than a library's or this toolkit's?"""
    code = getattr(function, "__code__", None)
    module = str(getattr(function, "__module__", "") or "")
    if code is None or module.partition(".")[0] == "strangler_proxy":
        return False
    return not str(code.co_filename).startswith(("<", *_libraries()))


def is_atomic(function: Any) -> bool:
    """Was `transaction.atomic` put around it, by a decorator of any depth or by `method_decorator`?"""
    while function is not None:
        for cell in getattr(function, "__closure__", None) or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if any(_opens_atomic(each) for each in (held if isinstance(held, (list, tuple)) else (held,))):
                return True
        function = getattr(function, "__wrapped__", None)
    return False


def _opens_atomic(value: Any) -> bool:
    return value is transaction.atomic or isinstance(value, transaction.Atomic)


def commits_of(function: Any, owner: Optional[type] = None, depth: int = DEPTH) -> Places:
    """Where the function commits; `owner` is the class that `self` is of."""
    return _commits(function, owner, depth, frozenset())


def _commits(function: Any, owner: Optional[type], depth: int, within: frozenset[Any]) -> Places:
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    if code is None or code in within or not of_project(plain):
        return ()
    tree = _tree(plain)
    if tree is None:
        return ()
    found = _Function(plain, owner, depth, within | {code}).block(tree.body)[0]
    return found[:1] if is_atomic(function) else found


@lru_cache(maxsize=2048)
def _tree(function: types.FunctionType) -> Any:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    if not isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
    return tree


class _Function:
    """One function being read."""

    def __init__(self, function: Any, owner: Optional[type], depth: int, within: frozenset[Any]) -> None:
        self._function, self._owner, self._depth, self._within = function, owner, depth, within

    def block(self, statements: Sequence[ast.stmt]) -> Path:
        """Commits on the worst path through these, and whether each path ends the function."""
        if not statements:
            return (), False
        after, after_ends = self.block(statements[1:])
        paths = [
            (found, True) if ends else (found + after, after_ends) for found, ends in self._branches(statements[0])
        ]
        return _worst(paths)

    def _branches(self, statement: ast.stmt) -> list[Path]:
        """The ways through one statement."""
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return [((), False)]
        if isinstance(statement, (ast.Return, ast.Raise)):
            return [(self._expressions([statement]), True)]
        if isinstance(statement, ast.If):
            test = self._expressions([statement.test])
            return [(test + found, ends) for found, ends in map(self.block, (statement.body, statement.orelse))]
        if isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            head = self._expressions([statement.test if isinstance(statement, ast.While) else statement.iter])
            return [(head + self.block(statement.body)[0] * 2 + self.block(statement.orelse)[0], False)]
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            return [self._with(statement)]
        if isinstance(statement, ast.Try):
            return self._try(statement)
        if isinstance(statement, getattr(ast, "Match", ())):  # Python 3.10
            cases: Any = statement
            return [((), False), *(self.block(case.body) for case in cases.cases)]
        return [(self._expressions([statement]), False)]

    def _with(self, statement: Any) -> Path:
        heads = [item.context_expr for item in statement.items]
        names = {_name_of(head.func if isinstance(head, ast.Call) else head) for head in heads}
        body, ends = self.block(statement.body)
        if "resumable" in names:  # a fence there answers replay=resume, whatever was committed
            return (), ends
        if "atomic" in names:
            return body[:1] + self._after_commit(statement), ends
        return self._expressions(heads) + body, ends

    def _try(self, statement: ast.Try) -> list[Path]:
        body, ends = self.block(statement.body)
        going_on, going_on_ends = self.block(statement.orelse)
        paths = [(body + going_on, ends or going_on_ends)]
        for handler in statement.handlers:
            found, handler_ends = self.block(handler.body)
            paths.append((body + found, handler_ends))
        last, last_ends = self.block(statement.finalbody)
        return [(found + last, each or last_ends) for found, each in paths]

    def _after_commit(self, statement: ast.AST) -> Places:
        """What `on_commit` inside of it does once it is committed."""
        found: Places = ()
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and _name_of(node.func) == "on_commit" and node.args:
                given = node.args[0]
                if isinstance(given, ast.Lambda):
                    found += self._expressions([given.body])
                else:
                    found += self._followed(given)
        return found

    def _expressions(self, roots: Iterable[ast.AST]) -> Places:
        found: Places = ()
        for root in roots:
            for node in _outside_of_functions(root):
                if isinstance(node, ast.Call):
                    found += (self._place(node),) if self._writes(node) else self._followed(node.func)
        return found[:MOST]

    def _place(self, node: ast.AST) -> str:
        return f"{self._function.__code__.co_filename}:{getattr(node, 'lineno', 0)}"

    def _writes(self, call: ast.Call) -> bool:
        if not isinstance(call.func, ast.Attribute):
            return False
        name, receiver = call.func.attr, call.func.value
        if isinstance(receiver, ast.Call) and _name_of(receiver.func) == "super":
            return name in _OF_GENERIC_VIEWS
        if _name_of(receiver) in _KEPT_ELSEWHERE:
            return False
        if name in _SQL:
            return bool(call.args) and may_write(self._text(call.args[0]))
        plain = name[1:] if name[:1] == "a" and name[1:] in _BY_KEYWORDS | _BULK else name
        if plain in _BULK:
            return True
        uncommitted = any(
            each.arg == "commit" and isinstance(each.value, ast.Constant) and each.value.value is False
            for each in call.keywords
        )
        nothing = plain == "update" and not call.keywords
        return plain in _BY_KEYWORDS and not call.args and not uncommitted and not nothing

    def _text(self, node: ast.expr) -> str:
        """The statement, where the source says it; else one that is taken for a write."""
        value = node.value if isinstance(node, ast.Constant) else self._resolve(node)
        return value if isinstance(value, str) else "UNKNOWN"

    def _followed(self, target: ast.AST) -> Places:
        """Commits of a function of the project that is called here."""
        if self._depth <= 0:
            return ()
        function = self._resolve(target)
        if not isinstance(function, (types.FunctionType, types.MethodType)):
            return ()
        of_self = isinstance(target, ast.Attribute) and _name_of(target.value) in ("self", "cls")
        return _commits(function, self._owner if of_self else None, self._depth - 1, self._within)

    def _resolve(self, node: ast.AST) -> Any:
        """What a name or `a.b` stands for, as far as modules and classes tell."""
        if isinstance(node, ast.Name):
            if node.id in ("self", "cls"):
                return self._owner
            return self._function.__globals__.get(node.id)
        if isinstance(node, ast.Attribute):
            holder = self._resolve(node.value)
            if isinstance(holder, (types.ModuleType, type)):
                return inspect.getattr_static(holder, node.attr, None)
        return None


def _outside_of_functions(root: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, in the order of the source, without the bodies of lambdas and functions."""
    if isinstance(root, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    for child in ast.iter_child_nodes(root):
        yield from _outside_of_functions(child)
    yield root


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _worst(paths: list[Path]) -> Path:
    worst = max((found for found, _ in paths), key=len)
    return worst[:MOST], all(ends for _, ends in paths)
