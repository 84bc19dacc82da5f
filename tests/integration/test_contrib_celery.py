"""Celery takes request id and trace along, and logs each run, in processes of a project's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.servers import ROOT, EmbeddedValkey

PROGRAM = """
import sys
from celery import Celery
from strangler_proxy.contrib.celery import install
from strangler_proxy.contrib.context import bind_request, request_id, traceparent
from strangler_proxy.contrib.observe import configure_logging

configure_logging("parcels")
app = Celery("contrib_test", broker=sys.argv[1])
app.conf.task_ignore_result = True
install(app)
install(app)

@app.task(name="tell")
def tell():
    print("told", request_id.get(), traceparent.get().split("-")[1], flush=True)
    app.control.broadcast("shutdown")

with bind_request("cause-9", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
    tell.apply_async(queue="contrib-celery")
app.worker_main(["worker", "--pool", "solo", "-Q", "contrib-celery", "--without-gossip", "--without-mingle"])
"""


def test_a_task_runs_with_the_request_id_and_trace_of_its_cause_and_is_one_line(valkey: EmbeddedValkey) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, valkey.url(3)],
        cwd=ROOT,
        env={**os.environ, "STRANGLER_LOG": "json", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert "told cause-9 0af7651916cd43dd8448eb211c80319c" in done.stdout, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["message"] == "task.finished"]
    assert line["strangler"]["task"] == "tell"
    assert line["strangler"]["state"] == "SUCCESS"
    assert line["http"]["request"]["id"] == "cause-9"
    assert line["service"]["name"] == "parcels"
    assert line["event"]["duration"] > 0
