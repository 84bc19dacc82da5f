"""`strangler control`: what stops its start, and the schema."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.integration.cli_process import Done, run_command
from tests.servers import free_port

Control = Callable[..., Done]


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """`strangler control ...` with nothing but what the test gives it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRANGLER_")}

    def run(*words: str, **more: str) -> Done:
        return run_command(("control", *words), environment | more, tmp_path, timeout_s=30)

    return run


def test_the_schema_is_made_once_however_often_it_is_asked_for(control: Control, database: str) -> None:
    first = control("--migrate-only", STRANGLER_DATABASE_URL=database)
    assert (first.code, first.out) == (0, "")
    assert "applied now: 0001_" in first.err
    again = control("--migrate-only", STRANGLER_DATABASE_URL=database)
    assert (again.code, "applied now: nothing" in again.err) == (0, True)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT revision FROM strangler.state").fetchone() == (0,)


def test_a_database_that_is_away_is_told(control: Control) -> None:
    done = control("--migrate-only", STRANGLER_DATABASE_URL=f"postgresql://127.0.0.1:{free_port()}/none")
    assert done.code == 1
    assert "the control database does not answer" in done.err
    assert "next: strangler ps" in done.err


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "STRANGLER_DATABASE_URL is not set"),
        ({"STRANGLER_DATABASE_URL": "postgresql://h/d"}, "nobody could call"),
        ({"STRANGLER_DATABASE_URL": "postgresql://h/d", "STRANGLER_CONTROL_TOKEN": "short"}, "has 5 characters"),
        (
            {"STRANGLER_DATABASE_URL": "postgresql://h/d", "STRANGLER_CONTROL_TOKEN_FILE": "nowhere"},
            "STRANGLER_CONTROL_TOKEN_FILE: ",
        ),
        (
            {
                "STRANGLER_DATABASE_URL": "postgresql://h/d",
                "STRANGLER_CONTROL_TOKEN": "the-same-token-twice",
                "STRANGLER_VIEWER_TOKEN": "the-same-token-twice",
            },
            "would be able to write",
        ),
        (
            {
                "STRANGLER_DATABASE_URL": "postgresql://h/d",
                "STRANGLER_CONTROL_TOKEN": "a-token-of-some-length",
                "STRANGLER_CONTROL_LISTEN": "here",
            },
            "is not HOST:PORT",
        ),
    ],
)
def test_settings_that_do_not_fit_stop_the_start(control: Control, settings: dict[str, str], says: str) -> None:
    done = control(**settings)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_a_port_in_use_is_told(control: Control) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = control(
            "--listen",
            f"127.0.0.1:{taken.getsockname()[1]}",
            STRANGLER_DATABASE_URL="postgresql://h/d",
            STRANGLER_CONTROL_TOKEN="a-token-of-some-length",
        )
    assert done.code == 1
    assert "cannot listen on 127.0.0.1:" in done.err
    assert "next: strangler control --listen HOST:PORT" in done.err
