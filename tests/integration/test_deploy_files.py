"""compose.yaml, the Dockerfiles and the Prometheus file: what can be checked without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT

BIN = Path(sys.executable).parent
ENV_FILE = ROOT / "deploy/docker/example.env"
DOCKERFILES = sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))
MESSAGES_ONLY = {"monolith-messages", "auth-messages", "payments-messages"}


def compose(*words: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "docker-compose", "--env-file", ENV_FILE, "-f", ROOT / "compose.yaml", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


@cache
def services() -> dict[str, Any]:
    done = compose("--profile", "observe", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_the_real_compose_accepts_the_file() -> None:
    done = compose("config", "-q")
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_it_has_every_step_and_process_of_strangler_toml() -> None:
    listed = tomllib.loads((ROOT / "strangler.toml").read_text())
    names = {unit["name"] for unit in (*listed["steps"], *listed["processes"])}
    assert names | {"postgres", "rabbitmq", "prometheus"} == set(services())


def test_every_long_running_service_has_a_health_check_no_root_and_restarts() -> None:
    steps = {unit["name"] for unit in tomllib.loads((ROOT / "strangler.toml").read_text())["steps"]}
    for name, service in services().items():
        assert service["user"] not in ("", "root", "0"), name
        if name in steps:
            assert service["restart"] == "no", name
            continue
        assert service["restart"] == "unless-stopped", name
        assert name in MESSAGES_ONLY or service.get("healthcheck"), name


def test_ports_are_published_on_loopback_only() -> None:
    for name, service in services().items():
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name


def test_images_are_pinned() -> None:
    images = {service["image"] for service in services().values()}
    for dockerfile in DOCKERFILES:
        stages = set(re.findall(r" AS (\w+)", dockerfile.read_text()))
        images |= set(re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.M)) - stages
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), image


def test_a_secret_that_is_not_given_is_asked_for_by_name() -> None:
    command = [str(BIN / "docker-compose"), "--env-file", "/dev/null", "-f", str(ROOT / "compose.yaml"), "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert "example.env" in done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run(
        [str(BIN / "hadolint"), str(dockerfile)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_prometheus_scrapes_every_process_that_listens() -> None:
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    targets = set(re.findall(r'"([a-z-]+):\d+"', text))
    assert targets == {"proxy", "control", "worker", "monolith-web", "auth-web", "payments-web"}
    assert targets <= set(services())
