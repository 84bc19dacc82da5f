"""Who is measured: a name, a command, a configuration each. All forward everything to one NGINX that serves files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.contestant import ALL, Contestant
from tests.benchmarks.ours import HERE, OURS, UVICORN
from tests.benchmarks.parts import debian, wheel
from tests.benchmarks.upstream import UPSTREAM_PORT, nginx


def _nginx_proxy(folder: Path, port: int) -> list[str]:
    (folder / "nginx.conf").write_text(
        nginx(
            folder,
            f"upstream up {{ server 127.0.0.1:{UPSTREAM_PORT}; keepalive 64; keepalive_requests 1000000000; }}"
            f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://up;"
            "proxy_http_version 1.1;"
            'proxy_set_header Connection ""; proxy_set_header Host $http_host;'
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffer_size 16k; proxy_buffers 16 16k;"
            "proxy_busy_buffers_size 64k; } }",
        )
    )
    return [debian("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _haproxy(folder: Path, port: int) -> list[str]:
    (folder / "haproxy.cfg").write_text(
        "global\n  nbthread 1\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n"
        "  timeout server 60s\n  http-reuse always\n  option forwardfor\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
        f"backend b\n  server s1 127.0.0.1:{UPSTREAM_PORT} pool-max-conn 200\n"
    )
    return [debian("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def _envoy(folder: Path, port: int) -> list[str]:
    types = "type.googleapis.com/envoy.extensions.filters"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": UPSTREAM_PORT}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
    connection = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [router],
    }
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
    (folder / "envoy.json").write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    return [wheel("envoy"), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "error",
            "--use-dynamic-base-id"]  # fmt: skip


def _traefik(folder: Path, port: int) -> list[str]:
    (folder / "dynamic.yml").write_text(
        "http:\n  routers: {r: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [web]}}\n  services:"
        f" {{s: {{loadBalancer: {{passHostHeader: true, servers: [{{url: 'http://127.0.0.1:{UPSTREAM_PORT}'}}]}}}}}}\n"
    )
    (folder / "traefik.yml").write_text(
        f"entryPoints: {{web: {{address: '127.0.0.1:{port}'}}}}\n"
        f"providers: {{file: {{filename: '{folder}/dynamic.yml', watch: false}}}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\nlog: {level: ERROR}\n"
        "serversTransport: {maxIdleConnsPerHost: 200}\n"
    )
    return [wheel("traefik"), f"--configFile={folder}/traefik.yml"]


def _caddy(folder: Path, port: int) -> list[str]:
    (folder / "Caddyfile").write_text(
        "{\n  admin off\n  auto_https off\n  log {\n    level ERROR\n  }\n}\n"
        f"http://127.0.0.1:{port} {{\n  bind 127.0.0.1\n  reverse_proxy 127.0.0.1:{UPSTREAM_PORT} {{\n"
        "    transport http {\n      keepalive_idle_conns_per_host 200\n    }\n  }\n}\n"
    )
    return [wheel("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _uvicorn(factory: str) -> Callable[[Path, int], list[str]]:
    def prepare(folder: Path, port: int) -> list[str]:
        return [wheel("uvicorn"), f"tests.benchmarks.others:{factory}", "--factory", "--host", "127.0.0.1",
                "--port", str(port), *UVICORN]  # fmt: skip

    return prepare


_ONE_CORE: Final = {"GOMAXPROCS": "1"}

CONTESTANTS: Final[Mapping[str, Contestant]] = {
    c.name: c
    for c in (
        Contestant(name="direct", prepare=None, cases=ALL),
        Contestant(name="nginx", prepare=_nginx_proxy, cases=ALL),
        Contestant(name="haproxy", prepare=_haproxy),
        Contestant(name="envoy", prepare=_envoy, cases=ALL),
        Contestant(name="traefik", prepare=_traefik, environment=_ONE_CORE),
        Contestant(name="caddy", prepare=_caddy, environment=_ONE_CORE),
        *OURS,
        Contestant(name="asgiproxy", prepare=_uvicorn("asgiproxy"), environment=HERE),
        Contestant(name="starlette-httpx", prepare=_uvicorn("starlette_httpx"), environment=HERE),
        Contestant(name="fastapi-proxy-lib", prepare=_uvicorn("fastapi_proxy_lib"), environment=HERE),
    )
}
