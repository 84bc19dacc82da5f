"""`strangler shadow replay` on real sockets: what is asked again, with which credentials, and what comes of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from strangler_proxy.core.sample import Sample
from strangler_proxy.store.evidence_opened import open_evidence
from tests.integration.cli_process import Done, run_command
from tests.ports.evidence_samples import rule, sample
from tests.servers import ROOT, free_port

SECRET = "sessionid-of-ada-9f8e7d"
MARK = "[cookie:0123456789ab]"


class Side:
    """A small site that notes what it is asked; `answer` gives status and JSON by path."""

    def __init__(self, answer: Any) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                status, body = answer(self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 -- http.server looks for these names

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Side:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def control() -> Iterator[Side]:
    with Side(lambda path: (200, {"path": path, "price": 1})) as side:
        yield side


def recorded(number: int, **changes: Any) -> Sample:
    return dataclasses.replace(
        sample(number), fields=(("accept", "application/json"), ("host", "shop.example")), **changes
    )


def evidence_file(folder: Path, samples: Sequence[Sample], *rules: Any) -> Path:
    file = folder / "evidence.sqlite"

    async def fill() -> None:
        async with open_evidence(str(file)) as book:
            await book.keep([dataclasses.replace(each, flag="") for each in samples])
            for each in rules:
                await book.add_rule("", each, by="ada")

    asyncio.run(fill())
    return file


def run(folder: Path, *words: str) -> Done:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRANGLER_")}
    return run_command(("shadow", *words), environment | {"PYTHONPATH": str(ROOT)}, folder, timeout_s=60.0)


def replay(folder: Path, file: Path, control: str, candidate: str, *more: str) -> Done:
    return run(folder, "replay", "--evidence", str(file), "--control", control, "--candidate", candidate,
               "--rate", "200", *more)  # fmt: skip


def test_a_candidate_that_agrees_is_never_a_mismatch(tmp_path: Path, control: Side) -> None:
    file = evidence_file(tmp_path, [recorded(n) for n in (1, 2, 3)])
    with Side(lambda path: (200, {"price": 1.0, "path": path})) as candidate:
        done = replay(tmp_path, file, control.url, candidate.url, "-o", "json")
    assert done.code == 0, done.err
    assert sum(each["matched"] for each in done.document["strata"]) == 3
    assert "3 recorded requests were asked again" in done.document["notes"]
    assert sorted(path for _, path, _ in control.seen) == [f"/api/items/{n}?page=1" for n in (1, 2, 3)]
    assert {fields["host"] for _, _, fields in control.seen} == {"shop.example"}, "Host is never rewritten"


def test_a_difference_that_persists_is_confirmed_and_ends_with_3(tmp_path: Path, control: Side) -> None:
    file = evidence_file(tmp_path, [recorded(n) for n in (1, 2)])
    with Side(lambda path: (200, {"path": path, "price": 2})) as candidate:
        done = replay(tmp_path, file, control.url, candidate.url, "-o", "json")
        assert done.code == 3, done.err
        (found,) = [each for one in done.document["strata"] for each in one["differences"]]
        assert (found["path"], found["kind"], found["count"], found["confirmed"]) == ("price", "value", 2, 2)
        assert len(candidate.seen) == 4, "asked once more, both"
        words = replay(tmp_path, file, control.url, candidate.url)
        assert (words.code, "mismatched" in words.out, "price" in words.out) == (3, True, True)


def test_the_rules_of_the_evidence_count(tmp_path: Path, control: Side) -> None:
    near = dataclasses.replace(rule("near"), route="", absolute=None, relative=None, scale=0)
    file = evidence_file(tmp_path, [recorded(1)], near)
    with Side(lambda path: (200, {"path": path, "price": 1.2})) as candidate:
        done = replay(tmp_path, file, control.url, candidate.url, "-o", "json")
    assert (done.code, done.document["strata"][0]["ignored"]) == (0, 1), done.err


def test_unsafe_requests_are_never_sent_whatever_the_evidence_says(tmp_path: Path, control: Side) -> None:
    samples = [recorded(1, method="POST", safe=False), recorded(2, method="DELETE", safe=True),
               recorded(3, method="GET", safe=False), recorded(4, body='{"a":1}')]  # fmt: skip
    file = evidence_file(tmp_path, samples)
    with Side(lambda path: (200, {})) as candidate:
        done = replay(tmp_path, file, control.url, candidate.url)
        assert done.code == 1
        assert "not asked: 3 (unsafe)" in done.err
        assert "not asked: 1 (it has a body)" in done.err
        assert (control.seen, candidate.seen) == ([], [])


def test_marks_are_mapped_to_credentials_and_nobody_sees_them(tmp_path: Path, control: Side) -> None:
    signed_in = dataclasses.replace(sample(1), fields=(("cookie", f"theme=dark; session={MARK}"),))
    token = dataclasses.replace(sample(2), fields=(("authorization", "Bearer [secret:ffffffffffff]"),))
    unknown = dataclasses.replace(sample(3), fields=(("cookie", "session=[cookie:aaaaaaaaaaaa]"),))
    file = evidence_file(tmp_path, [signed_in, token, unknown])
    mapped = tmp_path / "credentials.toml"
    mapped.write_text(
        f'[marks]\n"{MARK}" = "{SECRET}"\n'
        '[users.bob]\nmarks = ["[secret:ffffffffffff]"]\nheaders = { Authorization = "Bearer bobs" }\n'
        'candidate_headers = { Authorization = "Bearer bobs-new" }\n'
        '[everybody]\nheaders = { X-Replay = "yes" }\n'
    )
    with Side(lambda path: (200, {"path": path, "price": 1})) as candidate:
        done = replay(tmp_path, file, control.url, candidate.url, "--credentials", str(mapped))
        assert done.code == 0, done.err
        by_path = {path: fields for _, path, fields in control.seen}
        assert by_path["/api/items/1?page=1"]["cookie"] == f"theme=dark; session={SECRET}"
        assert by_path["/api/items/2?page=1"]["authorization"] == "Bearer bobs"
        assert {fields["authorization"] for _, path, fields in candidate.seen if "items/2" in path} == {
            "Bearer bobs-new"
        }
        assert all(fields["x-replay"] == "yes" for _, _, fields in control.seen)
        assert len(control.seen) == 2
    assert "not asked: 1 (no credentials)" in done.err
    assert "[cookie:aaaaaaaaaaaa] stands in 1 of them" in done.err
    assert SECRET not in done.out + done.err


def test_what_proxies_and_tracers_added_is_left_out_and_so_is_a_field_with_a_mark(
    tmp_path: Path, control: Side
) -> None:
    fields = (
        ("traceparent", "00-[card:0123456789ab]"),
        ("referer", "https://shop.example/?mail=[email:0123456789ab]"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-strangler-origin", "monolith"),
        ("accept", "application/json"),
    )
    file = evidence_file(tmp_path, [dataclasses.replace(sample(1), fields=fields)])
    done = replay(tmp_path, file, control.url, control.url)
    assert done.code == 0, done.err
    sent = control.seen[0][2]
    assert sent["accept"] == "application/json"
    assert not {"traceparent", "referer", "x-forwarded-for", "x-strangler-origin"} & sent.keys()


def test_a_broken_file_of_credentials_is_told_without_its_values(tmp_path: Path, control: Side) -> None:
    file = evidence_file(tmp_path, [recorded(1)])
    mapped = tmp_path / "credentials.toml"
    mapped.write_text(f'[marks]\nada = "{SECRET}"\n[users.bob]\nheader = 1\n[strange]\n')
    done = replay(tmp_path, file, control.url, control.url, "--credentials", str(mapped))
    assert done.code == 2
    for part in ("ada: not a mark", "[users.bob] needs marks", 'unknown key "header"', "unknown table [strange]"):
        assert part in done.err, done.err
    assert SECRET not in done.err
    assert control.seen == []


def test_a_candidate_that_is_away_is_a_mismatch_and_a_control_that_is_proves_nothing(
    tmp_path: Path, control: Side
) -> None:
    file = evidence_file(tmp_path, [recorded(1)])
    nobody = f"http://127.0.0.1:{free_port()}"
    done = replay(tmp_path, file, control.url, nobody, "-o", "json")
    assert (done.code, done.document["verdict"]) == (3, "mismatched"), done.err
    done = replay(tmp_path, file, nobody, control.url, "-o", "json")
    assert (done.code, done.document["verdict"]) == (0, "inconclusive"), done.err


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x", "http://x/?a=1"])
def test_urls_that_name_no_side_are_refused(tmp_path: Path, url: str) -> None:
    file = evidence_file(tmp_path, [recorded(1)])
    done = replay(tmp_path, file, url, "http://127.0.0.1:9")
    assert (done.code, "give it as http://HOST:PORT" in done.err) == (2, True)


def test_each_request_is_asked_once_and_no_more_than_the_limit(tmp_path: Path, control: Side) -> None:
    same = [dataclasses.replace(recorded(9), id=f"{n:032x}") for n in range(5)]
    file = evidence_file(tmp_path, [*same, recorded(7), recorded(8)])
    done = replay(tmp_path, file, control.url, control.url, "--limit", "2")
    assert done.code == 0, done.err
    assert "not asked: 1 (beyond --limit)" in done.err
    assert "not asked: 4 (the same request again)" in done.err
    assert {path for _, path, _ in control.seen} == {"/api/items/9?page=1", "/api/items/8?page=1"}


def test_a_file_answers_all_verbs_without_a_control_plane(tmp_path: Path) -> None:
    file = str(evidence_file(tmp_path, [recorded(1), recorded(2)]))
    found = run(tmp_path, "show", recorded(1).id, "--evidence", file)
    assert (found.code, "/api/items/1?page=1" in found.out) == (0, True), found.err
    tried = run(tmp_path, "rule", "test", "--evidence", file, "--path", "price", "--ignore", "-o", "json")
    assert tried.document["trial"]["settled"] == 2
    added = run(tmp_path, "rule", "add", "--evidence", file, "--path", "price", "--ignore", "--owner", "ada",
                "--reason", "r", "--expires", "2099-01-01")  # fmt: skip
    assert added.code == 0, added.err
    listed = run(tmp_path, "rule", "list", "--evidence", file, "-o", "json").document
    assert [each["id"] for each in listed["rules"]] == ["ignore-price"]
    ended = run(tmp_path, "rule", "expire", "ignore-price", "--evidence", file)
    assert ended.code == 0, ended.err
    out = run(tmp_path, "export", "--evidence", file, "copy.jsonl", "-o", "json")
    assert out.document["samples"] == 2
    report = run(tmp_path, "report", "--evidence", file)
    assert (report.code, "there is no evidence yet" in report.err) == (0, True), report.err
