"""The Django migration that goes with retiring: the state of the models changes, the database is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strangler_proxy.core.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class OldModel:
    """A model whose table is retired. `label` is `app.Model`, `references` are labels that its foreign keys name."""

    label: str
    table: str
    references: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """The app's label."""
        return self.label.partition(".")[0]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.label.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A file to be written into the migrations of an app."""

    app: str
    name: str
    text: str


_PREAMBLE = '''
class LeaveAlone(migrations.AlterModelOptions):
    """Sets `managed`, and keeps the options that it does not name."""

    ALTER_OPTION_KEYS = ()

'''


def migration_of(flag: str, app: str, models: Sequence[OldModel], *, previous: str, keep_models: bool) -> Migration:
    """The migration of one app, after its migration `previous` (`0003_name`). Children go before what they refer to."""
    number = int(previous.partition("_")[0]) + 1 if previous[:4].isdigit() else 1
    name = f"{number:04d}_retire_{flag.replace('-', '_')}"
    mine = children_first([model for model in models if model.app == app])
    what = "are not managed any more" if keep_models else "leave the state"
    operations = "\n".join(f"                {_operation(model, keep_models=keep_models)}" for model in mine)
    text = f'''"""Flag {flag} is retired: its models {what}. The tables are no business of Django's any more.

Written by `strangler retire`. Read it, {_advice(keep_models=keep_models)}, run `makemigrations --check`.
"""

from django.db import migrations

{_PREAMBLE if keep_models else ""}
class Migration(migrations.Migration):
    dependencies = [("{app}", "{previous}")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
{operations}
            ],
        ),
    ]
'''
    return Migration(app=app, name=name, text=text)


def children_first(models: Iterable[OldModel]) -> list[OldModel]:
    """An order in which no model goes before one that refers to it; a circle stays in the order given."""
    left, ordered = list(models), []
    while left:
        free = [each for each in left if not any(each.label in other.references for other in left if other is not each)]
        chosen = free[0] if free else left[0]
        ordered.append(chosen)
        left.remove(chosen)
    return ordered


def check_references(models: Sequence[OldModel], others: Iterable[OldModel]) -> None:
    """Models cannot leave the state while others refer to them. Raises DeclarationError with each that does."""
    gone = {model.label for model in models}
    problems = [
        f"model {other.label} has a foreign key to {', '.join(sorted(gone.intersection(other.references)))}: make it a "
        "plain column first, or keep the models with --keep-models"
        for other in others
        if other.label not in gone and gone.intersection(other.references)
    ]
    if problems:
        raise DeclarationError(problems)


def _operation(model: OldModel, *, keep_models: bool) -> str:
    if keep_models:
        return f'LeaveAlone(name="{model.name.lower()}", options={{"managed": False}}),'
    return f'migrations.DeleteModel(name="{model.name}"),'


def _advice(*, keep_models: bool) -> str:
    return "say `managed = False` in the models' Meta" if keep_models else "delete the models with it"
