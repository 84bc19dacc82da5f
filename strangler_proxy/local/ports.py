"""Ports of this machine: free ones, and who holds one that is in use."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping

import psutil

from strangler_proxy.core.errors import StranglerError

LOOPBACK = "127.0.0.1"
NEAR = 100
FREE_RANGE = (10_000, 31_000)


class PortInUse(StranglerError):
    """One or more ports are held by somebody else; the message names each with its owner."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Could a server listen there now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def owner_of(port: int) -> str:
    """Who listens on `port`, in words."""
    try:
        listening = [
            connection
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
    except psutil.AccessDenied:
        listening = []
    for connection in listening:
        if connection.pid is None:
            continue
        try:
            command = " ".join(psutil.Process(connection.pid).cmdline())[:160]
        except psutil.Error:
            command = "a command that cannot be read"
        return f"pid {connection.pid} ({command})"
    return "a process of another user" if listening else "a process that cannot be seen from here"


def require_free(ports: Mapping[str, int], *, next_command: str) -> None:
    """Raises PortInUse that names every port which is taken."""
    taken = [
        f'port {port} ("{name}") is in use by {owner_of(port)}' for name, port in ports.items() if not is_free(port)
    ]
    if taken:
        raise PortInUse("\n".join(taken), next_command=next_command)


def choose_free(ports: Mapping[str, int]) -> dict[str, int]:
    """Free ports instead of `ports`. Those that are near each other keep their distances (a process may count on
    from its own), and all are below the range that the system takes ports of connections from.

    Raises PortInUse when none are found.
    """
    chosen: dict[str, int] = {}
    for group in _near(ports):
        least = min(group.values())
        for _ in range(200):
            base = random.randrange(*FREE_RANGE)
            moved = {name: base + port - least for name, port in group.items()}
            if not set(moved.values()) & set(chosen.values()) and all(map(is_free, moved.values())):
                chosen |= moved
                break
        else:
            raise PortInUse(f"no free ports for {', '.join(group)}")
    return chosen


def _near(ports: Mapping[str, int]) -> list[dict[str, int]]:
    groups: list[dict[str, int]] = []
    last = -NEAR
    for name, port in sorted(ports.items(), key=lambda item: item[1]):
        if port - last >= NEAR:
            groups.append({})
        groups[-1][name] = last = port
    return groups
