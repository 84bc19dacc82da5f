"""`strangler up` with tiny processes: order, health, restarts, the end of it, and what is left of a killed run."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from strangler_proxy.local.ports import is_free
from tests.integration.local_project import SLEEP, WEB, LocalProject, alive, wait_until
from tests.servers import free_port

Make = Callable[..., LocalProject]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LocalProject] = []

    def project(text: str, **env: str) -> LocalProject:
        made.append(LocalProject(tmp_path / f"project{len(made)}", text, env=env))
        return made[-1]

    yield project
    for one in made:
        one.close()


def web(port: int, extra: str = "") -> str:
    return f"""
[ports]
web = {port}
[[processes]]
name = "web"
command = "{WEB}"
health = {{ http = "http://127.0.0.1:{{ports.web}}/" }}
url = "http://127.0.0.1:{{ports.web}}"
{extra}"""


def test_units_start_in_the_order_of_their_needs_and_stop_in_the_reverse_one(make: Make) -> None:
    text = """
[[processes]]
name = "last"
command = "sh -c 'echo last >> order; trap \\"echo last-ends >> order; exit 0\\" TERM; while true; do sleep 0.05; done'"
needs = ["middle"]
[[steps]]
name = "middle"
command = "sh -c 'sleep 0.3; echo middle >> order'"
needs = ["first"]
[[processes]]
name = "first"
command = "sh first.sh"
health = { command = "test -e up" }
"""
    project = make(text)
    (project.folder / "first.sh").write_text(
        "trap 'echo first-ends >> order; exit 0' TERM\n"
        "sleep 0.3; echo first >> order; touch up\n"
        "while true; do sleep 0.05; done\n"
    )
    process = project.up()
    project.wait_ready()
    wait_until(lambda: "last" in (project.folder / "order").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert (project.folder / "order").read_text().split() == ["first", "middle", "last", "last-ends", "first-ends"]


def test_ctrl_c_leaves_no_process_and_no_port(make: Make) -> None:
    port = free_port()
    # A grandchild that leaves the process group and ignores SIGTERM.
    stray = """[[processes]]
name = "stray"
command = "sh -c 'setsid sh -c \\"trap : TERM; while true; do sleep 0.1; done\\" & exec sleep 600'"
"""
    project = make(web(port, stray))
    process = project.up()
    project.wait_ready()
    wait_until(lambda: len(project.pids()) >= 3)
    pids = project.pids()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) == 0
    assert not [pid for pid in pids if alive(pid)]
    assert is_free(port)
    assert project.state()["state"] == "stopped"
    assert "nothing is left running" in project.out


def test_a_killed_process_is_back_within_seconds_with_a_new_pid(make: Make) -> None:
    port = free_port()
    project = make(web(port))
    project.up()
    project.wait_ready()
    before = project.unit("web")["pid"]
    began = time.monotonic()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: project.unit("web")["state"] == "ready" and project.unit("web")["pid"] != before)
    assert time.monotonic() - began < 5.0
    assert project.unit("web")["restarts"] == 1
    row = {unit["name"]: unit for unit in project.ps()["processes"]}["web"]
    assert (row["state"], row["restarts"], row["ports"], row["health"]) == ("ready", 1, [port], "ok")


def test_a_process_that_keeps_ending_is_restarted_with_longer_and_longer_waits(make: Make) -> None:
    project = make('[[processes]]\nname = "crash"\ncommand = "sh -c \'date +%s.%N >> starts; exit 3\'"\n')
    project.up()
    wait_until(lambda: (project.folder / "starts").exists())
    wait_until(lambda: len((project.folder / "starts").read_text().split()) >= 4)
    times = [float(word) for word in (project.folder / "starts").read_text().split()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[1] > 0.4
    assert gaps[2] > gaps[1]
    assert "ended with exit status 3" in project.out


def test_workers_of_a_killed_parent_do_not_keep_its_port(make: Make) -> None:
    port = free_port()
    code = (
        'import os,socket,time; s=socket.socket(); s.setsockopt(1,2,1); s.bind((\\"127.0.0.1\\",{ports.web})); '
        "s.listen(); os.fork(); time.sleep(600)"
    )
    text = f"""
[ports]
web = {port}
[[processes]]
name = "web"
command = "python -S -c '{code}'"
health = {{ tcp = "127.0.0.1:{{ports.web}}" }}
"""
    project = make(text)
    project.up()
    project.wait_ready()
    before = project.unit("web")["pid"]
    wait_until(lambda: len(psutil.Process(before).children()) == 1)
    orphan = psutil.Process(before).children()[0].pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: project.unit("web")["state"] == "ready" and project.unit("web")["pid"] != before)
    assert not alive(orphan)


def test_a_killed_up_takes_its_processes_with_it_and_the_next_one_starts(make: Make) -> None:
    port = free_port()
    # One process ignores the signal of its parent's death: the next start has to end it.
    deaf = """[[processes]]
name = "deaf"
command = "sh -c 'trap : TERM; while true; do sleep 0.1; done'"
grace_s = 1
"""
    project = make(web(port, deaf))
    first = project.up()
    project.wait_ready()
    deaf_pid, web_pid = project.unit("deaf")["pid"], project.unit("web")["pid"]
    first.kill()
    first.wait(5)
    wait_until(lambda: not alive(web_pid))
    assert alive(deaf_pid)
    shown = project.ps()
    assert shown["up"]["state"] == "killed"
    assert {unit["name"]: unit["state"] for unit in shown["processes"]} == {"web": "killed", "deaf": "left over"}
    project.up()
    wait_until(lambda: project.state()["pid"] != first.pid)
    project.wait_ready()
    assert not alive(deaf_pid)
    assert f"ended a leftover of a killed run: pid {deaf_pid}" in project.out


def test_down_ends_what_a_killed_run_left(make: Make) -> None:
    project = make('[[processes]]\nname = "deaf"\ncommand = "sh -c \'trap : TERM; while true; do sleep 0.1; done\'"\n')
    first = project.up()
    project.wait_ready()
    time.sleep(0.5)  # until the shell has set its trap
    pid = project.unit("deaf")["pid"]
    first.kill()
    first.wait(5)
    done = project.run("down")
    assert done.returncode == 0
    assert f"pid {pid}" in done.stderr
    assert not alive(pid)
    assert "down already" in project.run("down").stderr


def test_a_second_up_over_the_same_folder_is_refused(make: Make) -> None:
    project = make(f'[[processes]]\nname = "one"\ncommand = "{SLEEP}"\n')
    first = project.up()
    project.wait_ready()
    done = project.run("up")
    assert done.returncode == 1
    assert f"is up already (pid {first.pid}" in done.stderr
    assert "strangler down" in done.stderr
    assert first.poll() is None


def test_a_port_in_use_is_named_with_its_owner(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        project = make(web(port))
        done = project.run("up")
        assert done.returncode == 1
        assert f'port {port} ("web") is in use by pid {os.getpid()} (' in done.stderr
        assert "--port-offset" in done.stderr
        offset = project.run("up", "--detach", "--port-offset", "3", "--timeout", "20")
        assert offset.returncode == 0, offset.stderr
        assert project.ps()["ports"] == {"web": port + 3}


def test_a_failing_step_shows_what_it_wrote_and_nothing_goes_on(make: Make) -> None:
    text = f"""
[[processes]]
name = "before"
command = "{SLEEP}"
[[steps]]
name = "migrate"
command = "sh -c 'echo this table is odd; exit 7'"
needs = ["before"]
[[processes]]
name = "after"
command = "touch after"
needs = ["migrate"]
"""
    project = make(text)
    done = project.run("up")
    assert done.returncode == 1
    assert 'step "migrate" ended with exit status 7; its last lines:\n      this table is odd' in done.stderr
    assert "strangler logs migrate" in done.stderr
    assert not (project.folder / "after").exists()
    assert not project.pids()
    assert "this table is odd" in project.run("logs", "migrate").stdout


def test_a_step_that_does_not_end_and_a_process_that_is_never_ready_have_limits(make: Make) -> None:
    slow = make(f'[[steps]]\nname = "slow"\ncommand = "{SLEEP}"\ntimeout_s = 0.5\n')
    done = slow.run("up")
    assert done.returncode == 1
    assert 'step "slow" did not end in 0.5 s' in done.stderr
    mute = make(
        f'[[processes]]\nname = "mute"\ncommand = "{SLEEP}"\nhealth = {{ tcp = "127.0.0.1:1", within_s = 0.5 }}\n'
    )
    done = mute.run("up")
    assert done.returncode == 1
    assert 'process "mute" was not ready in 0.5 s' in done.stderr
    assert not mute.pids()


def test_a_command_that_does_not_exist_is_said(make: Make) -> None:
    done = make('[[processes]]\nname = "x"\ncommand = "no-such-command"\nhealth = { tcp = "127.0.0.1:1" }\n').run("up")
    assert done.returncode == 1
    assert "no-such-command: No such file or directory" in done.stderr


def test_secrets_are_private_kept_and_filled_in(make: Make) -> None:
    text = """
[secrets.token]
[shell]
TOKEN_FILE = "{secret_files.token}"
[[steps]]
name = "show"
command = "sh -c 'echo $A; cat {secret_files.token}'"
env = { A = "{secrets.token}" }
[[processes]]
name = "stay"
command = "sleep 600"
"""
    project = make(text)
    assert project.run("up", "--detach", "--timeout", "20").returncode == 0
    path = project.var / "secrets" / "token"
    secret = path.read_text()
    assert project.run("logs", "show").stdout.split() == [secret, secret]
    assert len(secret) >= 32
    for private in (path, project.var / "shell.env", project.var / "run" / "state.json"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert project.run("down").returncode == 0
    assert project.run("up", "--detach", "--timeout", "20").returncode == 0
    assert path.read_text() == secret


def test_two_stacks_run_beside_each_other_on_free_ports(make: Make) -> None:
    port = free_port()
    for project in (make(web(port)), make(web(port))):
        done = project.run("up", "--detach", "--free-ports", "--timeout", "20")
        assert done.returncode == 0, done.stderr
        assert not is_free(project.ps()["ports"]["web"])


def test_logs_go_to_files_with_prefixes_in_one_stream(make: Make) -> None:
    project = make('[[processes]]\nname = "talk"\ncommand = "sh -c \'echo to out; echo to err >&2; exec sleep 600\'"\n')
    project.up()
    project.wait_ready()
    wait_until(lambda: "to err" in project.run("logs").stdout)
    assert {"talk | to out", "talk | to err"} <= set(project.out.splitlines())
    assert project.run("logs", "talk", "-n", "2").stdout.splitlines() == ["to out", "to err"]
    unknown = project.run("logs", "nobody")
    assert unknown.returncode == 1
    assert 'no log of "nobody"; there are: talk' in unknown.stderr
