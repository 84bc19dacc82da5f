"""strangler.toml: what is wrong is told with file, line and what to do, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.local.assembly import choose_ports
from strangler_proxy.local.backoff import LONGEST_WAIT_S, STEADY_AFTER_S, Backoff
from strangler_proxy.local.declaration import Project, Restart
from strangler_proxy.local.output import LogFile
from strangler_proxy.local.parse import NoProject, load_project, parse_project
from strangler_proxy.local.references import needs_of
from strangler_proxy.local.substitution import fill_in, names_in
from tests.servers import ROOT

PATH = Path("/somewhere/strangler.toml")


def parse(text: str) -> Project:
    return parse_project(text, PATH)


def problems(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parse(text)
    return [line.removeprefix(f"{PATH}:") for line in caught.value.problems]


def test_the_example_is_valid_and_lists_every_process_of_the_shop() -> None:
    project = load_project(ROOT)
    assert {process.name for process in project.processes} == {
        *("proxy", "control", "worker", "processor", "monolith-web", "monolith-tasks", "monolith-messages"),
        *("auth-web", "auth-messages", "payments-web", "payments-messages"),
    }
    assert project.var == ROOT / "var"


def test_every_problem_is_told_with_its_line() -> None:
    text = """[ports]
web = 70000

[[steps]]
name = "Make It"
comand = "true"

[[processes]]
name = "web"
command = "serve {ports.wbe}"
needs = ["nobody"]
restart = "sometimes"
health = { http = "http://x", tcp = "x:1" }
stop_signal = "SIGKILL"
"""
    assert problems(text) == [
        '2: [ports]: web must be a whole number from 1 to 65535, not 70000',
        '4: step "Make It": command is missing',
        '5: step "Make It": name is \'Make It\': use lower-case letters, digits, - and _, at most 40, a letter first',
        "6: step \"Make It\": unknown key 'comand' (known: command, env, folder, name, needs, timeout_s)",
        '10: {ports.wbe} is not known (known: ports.web)',
        '11: "web" needs "nobody", which is no step, process or server',
        "12: process \"web\": restart is 'sometimes': use always, on-failure, never",
        '13: process "web": health needs exactly one of http, tcp and command',
        "14: process \"web\": stop_signal is 'SIGKILL': use SIGTERM, SIGINT, SIGQUIT, SIGHUP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ports\n", "1: not TOML: Expected ']' at the end of a table declaration"),
        ('name = "x"\nvar = 3\n', "2: strangler.toml: var must be text, not 3"),
        ('[[processes]]\nname = "a"\ncommand = []\n', "3: process \"a\": command must be a list of words, not []"),
        ('[[processes]]\nname = "a"\ncommand = "x \'y"\n', "3: process \"a\": command cannot be split into words"),
        ("[postgres]\n", "1: [postgres] needs a port: add `postgres = NUMBER` to [ports]"),
        ('[ports]\na = 1000\nb = 1000\n', "3: [ports]: b is 1000, which another name has already"),
        ('processes = "all"\n', "1: strangler.toml: processes must be written as [[processes]]"),
        ('[[steps]]\nname = "a"\ncommand = "x"\ntimeout_s = -1\n', '4: step "a": timeout_s must be a number'),
        ('[env]\nA = "{secrets.no}"\n', "2: {secrets.no} is not known (write {{secrets.no}} for the text itself)"),
        (2 * '[[steps]]\nname = "a"\ncommand = "x"\n', '5: the name "a" is used twice'),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_its_line(text: str, said: str) -> None:
    assert any(line.startswith(said) for line in problems(text)), problems(text)


def test_units_that_wait_for_each_other_are_refused() -> None:
    text = '[[steps]]\nname = "a"\ncommand = "x"\nneeds = ["b"]\n[[steps]]\nname = "b"\ncommand = "x"\nneeds = ["a"]\n'
    (line,) = problems(text)
    assert line.startswith("4: these wait for each other: ")
    assert {"a", "b"} <= set(line.split())


def test_roles_and_databases_that_are_not_declared_are_refused() -> None:
    text = """[ports]
postgres = 5000
[postgres.roles.app]
member_of = ["other"]
create_on = ["none"]
[postgres.databases.app]
owner = "nobody"
"""
    assert problems(text) == [
        '4: role "other" is not declared',
        '5: database "none" is not declared',
        '7: role "nobody" is not declared',
    ]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoProject, match=r"strangler\.toml does not exist"):
        load_project(tmp_path)


def test_what_a_unit_speaks_of_is_what_it_needs() -> None:
    project = parse(
        """[ports]
postgres = 5000
valkey = 6000
[postgres.roles.app]
[postgres.databases.app]
owner = "app"
[valkey]
[[processes]]
name = "web"
command = ["serve", "{broker}"]
env = { DB = "{databases.app}" }
"""
    )
    web = project.processes[0]
    assert needs_of(web) == {"postgres", "valkey"}
    assert web.restart is Restart.ALWAYS


def test_an_offset_moves_every_port_and_goes_on_at_1024_past_the_last_one() -> None:
    project = parse("[ports]\na = 8000\nb = 65000\n")
    assert choose_ports(project, offset=100) == {"a": 8100, "b": 65100}
    assert choose_ports(project, offset=1000) == {"a": 9000, "b": 1488}


def test_free_ports_keep_the_distances_of_neighbours() -> None:
    chosen = choose_ports(parse("[ports]\na = 8020\nb = 8021\nfar = 60000\n"), free=True)
    assert chosen["b"] == chosen["a"] + 1
    assert len(set(chosen.values())) == 3


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_waits_are_bounded_and_begin_again_after_a_steady_time(ups: list[float]) -> None:
    state = Backoff()
    for up_for_s in ups:
        state, wait = state.after_end(up_for_s)
        assert 0 <= wait <= LONGEST_WAIT_S
        if up_for_s >= STEADY_AFTER_S:
            assert wait == 0


@given(st.text(alphabet="ab{}. \"'"))
def test_text_without_a_known_form_stays_as_it_is(text: str) -> None:
    if not names_in(text) and "{{" not in text:
        assert fill_in(text, {}) == text


def test_log_files_stay_bounded(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "a.log", limit_bytes=1000)
    for _ in range(100):
        file.write(b"x" * 99 + b"\n")
    file.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a.log", "a.log.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
