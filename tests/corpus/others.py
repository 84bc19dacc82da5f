"""NGINX, HAProxy and Envoy before the recorder: as they come, with time-outs as short as the corpus has them.

Nothing is set that makes them laxer. `envoy-edge` is Envoy as its own page on edge deployments wants it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.corpus.started import OTHERS, started
from tests.servers import free_port

Prepare = Callable[[Path, int, int], list[str]]


def _nginx(folder: Path, port: int, upstream_port: int) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log /dev/null;"
        f"events {{ worker_connections 1024; }} http {{ access_log off; {temporary}"
        "client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_timeout 1s;"
        "client_max_body_size 1m;"
        f"upstream up {{ server 127.0.0.1:{upstream_port}; keepalive 8; }}"
        f"server {{ listen 127.0.0.1:{port}; server_name localhost;"
        "location / { proxy_pass http://up; proxy_http_version 1.1;"
        'proxy_set_header Connection ""; proxy_set_header Host $host; proxy_connect_timeout 1s;'
        "proxy_read_timeout 1s; proxy_send_timeout 1s; } } }\n"
    )
    return [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "/dev/null"]


def _haproxy(folder: Path, port: int, upstream_port: int) -> list[str]:
    (folder / "haproxy.cfg").write_text(
        "global\n  nbthread 1\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n"
        "  timeout http-request 1s\n  timeout http-keep-alive 1s\n  timeout server 1s\n  retries 1\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
        f"backend b\n  server s1 127.0.0.1:{upstream_port}\n"
    )
    return [shutil.which("haproxy") or "haproxy", "-db", "-q", "-f", str(folder / "haproxy.cfg")]


def _envoy(*, edge: bool) -> Prepare:
    def prepare(folder: Path, port: int, upstream_port: int) -> list[str]:
        (folder / "envoy.json").write_text(json.dumps(_envoy_config(port, upstream_port, edge=edge)))
        return [str(OTHERS / "envoy"), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "off",
                "--use-dynamic-base-id"]  # fmt: skip

    return prepare


def _envoy_config(port: int, upstream_port: int, *, edge: bool) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions.filters"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream_port}}
    route: dict[str, Any] = {"cluster": "up", "timeout": "1s", "idle_timeout": "1s"}
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    connection: dict[str, Any] = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "use_remote_address": True,
        "request_headers_timeout": "1s",
        "stream_idle_timeout": "1s",
        "common_http_protocol_options": {"idle_timeout": "1s"},
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [router],
    }
    if edge:
        connection["normalize_path"] = True
        connection["merge_slashes"] = True
        connection["path_with_escaped_slashes_action"] = "UNESCAPE_AND_REDIRECT"
        connection["common_http_protocol_options"]["headers_with_underscores_action"] = "REJECT_REQUEST"
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]}
    listener = {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }
    cluster = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "up",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


OTHER_PROXIES: dict[str, Prepare] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy(edge=False),
    "envoy-edge": _envoy(edge=True),
}


@contextmanager
def other_proxy(name: str, folder: Path, upstream_port: int) -> Iterator[int]:
    """One of them, with its files in a folder; its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with started(OTHER_PROXIES[name](folder, port, upstream_port), port, folder, {}):
        yield port
