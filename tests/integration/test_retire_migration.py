"""The generated migration in a real Django project whose tables were set aside: checks, migrates, reads by the ORM."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from strangler_proxy.cli.retire_migration import write_for
from strangler_proxy.core.errors import DeclarationError
from tests.servers import ROOT

pytestmark = pytest.mark.long

SETTINGS = """
SECRET_KEY = "for a test"
INSTALLED_APPS = ["bills", "post"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "%(dbname)s", "USER": "%(user)s",
    "HOST": "%(host)s", "PORT": "%(port)s", "PASSWORD": "%(password)s"}}
"""
BILLS = """
from django.db import models

class Bill(models.Model):
    total = models.IntegerField()
    class Meta:
        ordering = ["id"]

class Line(models.Model):
    bill = models.ForeignKey(Bill, on_delete=models.CASCADE)
"""
PARCEL = """
from django.db import models

class Parcel(models.Model):
    bill = models.ForeignKey("bills.Bill", on_delete=models.PROTECT)
"""
SET_ASIDE = """
INSERT INTO bills_bill (total) VALUES (7);
CREATE SCHEMA strangler_retired;
ALTER TABLE bills_bill SET SCHEMA strangler_retired;
ALTER TABLE bills_line SET SCHEMA strangler_retired;
CREATE VIEW bills_bill AS SELECT * FROM strangler_retired.bills_bill;
CREATE VIEW bills_line AS SELECT * FROM strangler_retired.bills_line;
"""
TABLES = {"bills_bill", "bills_line"}


class Project:
    """A project with a database of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        known = {"host": "127.0.0.1", "port": "", "password": "", **conninfo_to_dict(url)}
        (folder / "billing_settings.py").write_text(SETTINGS % known)
        self.write("bills", BILLS)
        self.write("post", "")
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "billing_settings",
        }

    def write(self, app: str, models: str) -> None:
        (self.folder / app / "migrations").mkdir(parents=True, exist_ok=True)
        (self.folder / app / "__init__.py").touch()
        (self.folder / app / "migrations" / "__init__.py").touch()
        (self.folder / app / "models.py").write_text(models)

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "django", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def project(make_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    url = make_database("retire_django")
    made = Project(tmp_path, url)
    made.manage("makemigrations", "bills")
    made.manage("migrate")
    with psycopg.connect(url) as connection:
        connection.execute(SET_ASIDE.encode())
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return made


@pytest.mark.parametrize("keep", [False, True], ids=["models deleted", "models kept"])
def test_the_project_is_consistent_after_the_migration(project: Project, keep: bool) -> None:
    folder = project.folder / "bills" / "migrations"
    (written,) = write_for("bills", TABLES, folder, "billing_settings", Path(sys.executable), keep_models=keep)
    assert written == folder / "0002_retire_bills.py"
    if keep:
        unmanaged = BILLS.replace('ordering = ["id"]', 'ordering = ["id"]; managed = False')
        project.write("bills", unmanaged.rstrip() + "\n    class Meta:\n        managed = False\n")
    else:
        project.write("bills", "")
    project.manage("makemigrations", "--check", "--dry-run")
    project.manage("migrate")
    assert "[X] 0002_retire_bills" in project.manage("showmigrations", "bills")
    if keep:
        said = project.manage("shell", "-c", "from bills.models import Bill; print('total', Bill.objects.get().total)")
        assert "total 7" in said


def test_models_that_others_refer_to_are_named_and_nothing_is_written(project: Project) -> None:
    project.write("post", PARCEL)
    folder = project.folder / "bills" / "migrations"
    with pytest.raises(DeclarationError, match=r"post\.Parcel has a foreign key to bills\.Bill"):
        write_for("bills", TABLES, folder, "billing_settings", Path(sys.executable), keep_models=False)
    assert not list(folder.glob("0002*"))
