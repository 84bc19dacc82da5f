"""Writing the Django migration of a retired flag: its models from the project, its last migration from the folder."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from strangler_proxy.cli.sync_manifest import project_of
from strangler_proxy.core.errors import DeclarationError, StranglerError
from strangler_proxy.core.retire_migration import OldModel, check_references, migration_of
from strangler_proxy.plan.schema import ModelFacts

_NAME = re.compile(r"\d{4}_\w+")
_DEPENDS = re.compile(r"""\(\s*["'](\w+)["']\s*,\s*["'](\w+)["']\s*\)""")


def write_migrations(flag: str, folder: Path, settings: str, python: Path, *, keep_models: bool) -> list[Path]:
    """Write one migration for each app that has old models; the files. Nothing is overwritten.

    `folder` holds an app's migrations, or is the root of the source tree where several apps have old models. Raises
    DeclarationError, ModelsUnread.
    """
    if not settings:
        raise DeclarationError(["--migration-dir needs --django SETTINGS, to know the models of the old tables"])
    return write_for(flag, _tables(flag), folder, settings, python, keep_models=keep_models)


def write_for(
    flag: str, tables: Collection[str], folder: Path, settings: str, python: Path, *, keep_models: bool
) -> list[Path]:
    """The same for old tables that are known. Raises DeclarationError, ModelsUnread."""
    models = [_old(each) for each in project_of(settings, python).models if not each.auto_created]
    mine = [model for model in models if model.table in tables]
    if not mine:
        raise DeclarationError([f"no model of {settings} has one of the tables {', '.join(sorted(tables))}"])
    if not keep_models:
        check_references(mine, models)
    written = []
    apps = sorted({model.app for model in mine})
    for app in apps:
        place = folder if len(apps) == 1 and not (folder / app / "migrations").is_dir() else folder / app / "migrations"
        migration = migration_of(flag, app, mine, previous=_last(place, app), keep_models=keep_models)
        written.append(_write(place / f"{migration.name}.py", migration.text))
    return written


def _tables(flag: str) -> set[str]:
    """The old tables by the monolith's names, as the manifest that was applied has them."""
    from strangler_proxy.cli.client import Control

    with Control() as control:
        found = control.get(f"/v1/flags/{flag}/retire")["tables"]
    return {str(each) for each in found}


def _old(model: ModelFacts) -> OldModel:
    references = tuple(column.references_label for column in model.columns if column.references_label)
    return OldModel(label=model.label, table=model.table, references=references)


def _last(folder: Path, app: str) -> str:
    """The migration that no other one of the folder depends on. Raises DeclarationError where there are several."""
    files = {path.stem: path.read_text() for path in folder.glob("*.py") if _NAME.fullmatch(path.stem)}
    named = {name for text in files.values() for label, name in _DEPENDS.findall(text) if label == app}
    last = sorted(set(files) - named)
    if len(last) != 1:
        raise DeclarationError(
            [f"{folder} has {len(last)} last migrations ({', '.join(last) or 'none'}), needed is one: --migration-dir"]
        )
    return last[0]


def _write(path: Path, text: str) -> Path:
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise StranglerError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
