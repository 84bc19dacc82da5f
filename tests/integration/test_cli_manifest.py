"""`strangler sync manifest propose` on the example's models, by the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "strangler"), "sync", "manifest", "propose", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=90, env={**os.environ, "SHOP_DEBUG": "1", **env}
    )


def test_the_text_goes_to_stdout_and_the_rest_to_stderr() -> None:
    done = run(
        "auth", "--django", "monolith.config.settings", "--app", "accounts.User", "--app", "accounts.RefreshToken"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# ")
    assert '[[data.tables]]\nmonolith = "accounts_user"' in done.stdout
    assert "monolith.notifications.signals.user_saved listens to" in " ".join(done.stdout.replace("#   ", "").split())
    assert "2 tables move" in done.stderr
    assert "next: " in done.stderr


def test_json_has_text_tables_and_findings() -> None:
    done = run("payments", "--django", "monolith.config.settings", "-o", "json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert "payments_intent" in document["tables"]
    assert {"weight", "table", "where", "says"} == set(document["findings"][0])


def test_what_cannot_be_looked_at_is_told_in_the_projects_own_words() -> None:
    unknown = run("auth", "--django", "nowhere.settings")
    assert (unknown.returncode, "No module named 'nowhere'" in unknown.stderr) == (1, True)
    bad = run("auth", "--django", "monolith.config.settings", SHOP_DEBUG="0")
    assert (bad.returncode, "SHOP_SECRET_KEY: is required" in bad.stderr) == (1, True)
    nothing = run("nothing", "--django", "monolith.config.settings")
    assert (nothing.returncode, 'no model is called "nothing"' in nothing.stderr) == (2, True)
