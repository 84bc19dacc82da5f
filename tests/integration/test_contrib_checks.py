"""`manage.py check` of a project: which views commit in parts, and how that is silenced."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from celery import Celery

from strangler_proxy.contrib.celery import doubts
from strangler_proxy.contrib.handover import HandingOverTask, HandOver
from tests.servers import ROOT

PACKAGE = "tests.integration.contrib_project"
MORE = {
    "twice", "below", "atomic_and_more", "in_a_loop", "by_sql", "on_commit", "asynchronous", "after_a_refusal",
    "Methods.post", "Generic.form_valid",
}  # fmt: skip


def check(**changes: str) -> str:
    """What `manage.py check` writes; it connects to nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--tag", "strangler"],
        env={
            **os.environ,
            "CONTRIB_TEST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "DJANGO_SETTINGS_MODULE": f"{PACKAGE}.checked_settings",
            "PYTHONPATH": str(ROOT),
            **changes,
        },
        cwd=ROOT, timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr + done.stdout


def flagged(text: str) -> set[str]:
    return set(re.findall(rf"W020\) view {PACKAGE}\.checked_views\.([\w.]+) ", text))


def test_views_that_commit_more_than_once_are_listed_and_no_others() -> None:
    text = check()
    assert flagged(text) == MORE, text
    (line,) = [line for line in text.splitlines() if "checked_views.twice " in line]
    source = (ROOT / "tests/integration/contrib_project/checked_views.py").read_text().splitlines()
    at = source.index("def twice(request: HttpRequest) -> HttpResponse:") + 1
    file = "tests/integration/contrib_project/checked_views.py"
    assert line.startswith(f"{file}:{at}: (strangler.W020)")
    assert f"{file}:{at + 1}, {file}:{at + 2}" in line
    assert '(route "twice")' in line
    assert "commits_in_parts(reason)" in text


def test_with_atomic_requests_only_what_is_exempt_is_listed() -> None:
    assert flagged(check(CONTRIB_TEST_ATOMIC="1")) == {"twice"}, "non_atomic_requests marks the view itself"


def test_the_check_can_be_silenced_as_a_whole() -> None:
    text = check(CONTRIB_TEST_SILENCED="strangler.W020")
    assert "W020" not in text
    assert f"{len(MORE)} silenced" in text


def test_a_view_that_commits_in_parts_on_purpose_says_why() -> None:
    from strangler_proxy.contrib.django.parts import commits_in_parts

    with pytest.raises(ValueError, match="needs a reason"):
        commits_in_parts(" ")


def test_settings_of_celery_that_lose_tasks_are_told() -> None:
    def run() -> None:
        """Never run."""

    with Celery("doubtful", set_as_current=False) as app:
        app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4)
        app.task(name="early", base=HandingOverTask, acks_late=False)(run)
        app.task(name="lost", base=HandingOverTask, reject_on_worker_lost=False)(run)
        app.task(name="good", base=HandingOverTask, hand_over=HandOver(flag="parcels", write=print))(run)
        told = doubts(app)
        assert not any("good" in line for line in told), told
        assert [line.partition(" is ")[0].partition(" has ")[0] for line in told] == [
            "task early", "task early", "task lost", "task lost",
            "task_acks_late without task_reject_on_worker_lost: a task whose worker", "worker_prefetch_multiplier",
        ]  # fmt: skip
        app.conf.update(task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
        assert len(doubts(app)) == 4


def test_the_monolith_has_no_view_that_commits_in_parts_without_saying_why() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monolith.manage", "check", "--tag", "strangler", "--fail-level", "WARNING"],
        env={**os.environ, "SHOP_DEBUG": "1"},
        cwd=ROOT, timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues" in done.stdout + done.stderr
