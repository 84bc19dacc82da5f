"""The NGINX behind everybody: the same files at two ports, and a third port whose writes always meet the fence.

The second is the candidate of shadow mode: its JSON of 2 KB has its keys in another order, so that whoever compares
has to look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from strangler_proxy.core.fence import FENCE_STATUS, FenceAnswer, Replay
from tests.benchmarks.parts import debian

UPSTREAM_PORT = 9400
CANDIDATE_PORT = 9401
FENCED_PORT = 9402
FENCED_FLAG = "flag10"
_MODIFIED_AT = 1_700_000_000
_ITEM = {"id": 0, "sku": "SKU-00000", "price": "12.50", "quantity": 3}
_FIELDS = ("X-Frame-Options DENY", "Vary Cookie", 'Set-Cookie "a=1; Path=/"', 'Set-Cookie "b=2; Path=/"')


def upstream(folder: Path) -> list[str]:
    """Write files and configuration; the command."""
    fields = "".join(f"add_header {line};" for line in _FIELDS)
    body = json.dumps([{**_ITEM, "id": n} for n in range(14)])
    post = f"location /post {{ default_type application/json; return 200 '{body}'; }}"
    fence = FenceAnswer(flag=FENCED_FLAG, epoch=1, owner="extracted", replay=Replay.SAFE).encode()
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} backlog=1024; root {_files(folder / name, turned=name == 'candidate')};"
        f" {fields} location / {{ }} {post} }}"
        for name, port in (("www", UPSTREAM_PORT), ("candidate", CANDIDATE_PORT))
    )
    refusing = f"server {{ listen 127.0.0.1:{FENCED_PORT} backlog=1024; root {folder}/www; location / {{ }}"
    refusing += f" location /post {{ add_header X-Strangler-Fence '{fence}' always; return {FENCE_STATUS}; }} }}"
    types = "sendfile on; types { application/json json; } open_file_cache max=100 inactive=3600s;"
    (folder / "nginx.conf").write_text(nginx(folder, types + servers + refusing))
    return [debian("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def nginx(folder: Path, http: str) -> str:
    """A configuration of NGINX with one worker, that keeps connections for an hour."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;"
        "events { worker_connections 8192; } http { access_log off; keepalive_requests 1000000000;"
        f"keepalive_timeout 3600s; tcp_nodelay on; {temporary} {http} }}"
    )


def _files(www: Path, *, turned: bool) -> Path:
    www.mkdir()
    for name, size in (("1k.json", 1024), ("64k.json", 65536)):
        items = [{**_ITEM, "id": n} for n in range(size // len(json.dumps(_ITEM)) + 1)]
        (www / name).write_text(json.dumps(items)[: size - 1] + "]")
    (www / "2k.json").write_text(json.dumps([_order({**_ITEM, "id": n}, turned=turned) for n in range(28)]))
    for file in www.iterdir():
        os.utime(file, (_MODIFIED_AT, _MODIFIED_AT))
    return www


def _order(item: Mapping[str, object], *, turned: bool) -> dict[str, object]:
    return dict(reversed(list(item.items()))) if turned else dict(item)
