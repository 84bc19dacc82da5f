"""The mirror: who gets a copy, of what, and what is told of it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED
from strangler_proxy.core.route import Route
from strangler_proxy.core.stage import Origin, Stage
from tests.integration.engine_rig import ok
from tests.integration.mirror_rig import MirrorRig, mark, mirroring


@pytest.fixture
def rig() -> Iterator[MirrorRig]:
    with mirroring() as made:
        yield made


def test_a_safe_request_goes_to_both_and_the_client_gets_the_controls_answer(rig: MirrorRig) -> None:
    answer = rig.get("/f/x?q=1", "Cookie: a=b\r\nX-Odd: 1\r\n")
    assert answer.body == b"monolith|/f/x?q=1|"
    assert rig.wait(1)
    (pair,) = rig.sink.pairs
    assert pair.control.body == b"monolith|/f/x?q=1|"
    assert pair.candidate.body == b"extracted|/f/x?q=1|"
    (ours,), (theirs,) = rig.monolith.seen, rig.extracted.seen
    marked = mark(theirs)
    assert marked is not None
    assert (marked.role.value, marked.flag) == ("mirror", "f")
    assert mark(ours) is None
    assert not ours.values("x-strangler-shadow")
    lines = theirs.head.split(b"\r\n")
    assert [line for line in lines if not line.startswith(b"X-Strangler-Shadow")] == ours.head.split(b"\r\n")


def test_equal_answers_are_told_as_equal(rig: MirrorRig) -> None:
    for upstream, when in ((rig.monolith, b"1"), (rig.extracted, b"2")):
        upstream.default = ok(
            b"the same", b"Content-Type: text/plain\r\nDate: %b\r\nX-Request-Id: %b\r\n" % (when, when)
        )
    with rig.client() as client:
        for _ in range(20):
            assert client.get("/f/x?q=1").body == b"the same"
    assert rig.wait(20)
    assert rig.sink.fates == {EQUAL: 20}
    seen = rig.sink.seen[-1]
    assert (seen.flag, seen.route, seen.method, seen.path, seen.status) == ("f", "f", "GET", b"/f/x", 200)
    assert seen.content_type == b"text/plain"
    assert seen.control_ms > 0
    assert seen.candidate_ms > 0


def test_nothing_of_ours_that_a_client_sends_reaches_anybody(rig: MirrorRig) -> None:
    forged = "".join(
        f"{name}: role=mirror\r\n"
        for name in ("X-Strangler-Shadow", "x_strangler_shadow", "X-Strangler-Recorded", "X-Strangler-Effects")
    )
    rig.get("/f/x", forged)
    rig.get("/f/x", forged, method="POST", body=b"{}")
    assert rig.wait(2)
    for seen in (*rig.monolith.seen, *rig.extracted.seen):
        assert b"role=mirror\r\n" not in seen.head.lower()
        assert len(seen.values("x-strangler-shadow")) == (1 if seen in rig.extracted.seen else 0)


def test_the_client_never_sees_effects_proofs_or_versions(rig: MirrorRig) -> None:
    fields = b"X-Strangler-Effects: 1/1; AAAA\r\nX-Strangler-Shadow-Proof: ab\r\nX-Strangler-Version: 7\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n%b\r\n" % fields
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n2\r\nok\r\n0\r\n%b\r\n" % (fields, fields)
    rig.monolith.scripts[b"/f/plain"] = ok(fields=fields)
    rig.monolith.scripts[b"/f/hints"] = hints + ok(fields=fields)
    rig.monolith.scripts[b"/f/chunked"] = chunked
    with rig.client() as client:
        for target in ("/f/plain", "/f/plain", "/f/hints", "/f/chunked"):
            answer = client.get(target)
            everything = b"".join([answer.head, answer.raw_body, *answer.interim]).lower()
            assert answer.body == b"ok"
            assert b"x-strangler" not in everything
    assert rig.wait(4)
    assert [pair.control.code_version for pair in rig.sink.pairs] == ["7"] * 4


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"same", b"Content-Type: text/plain\r\n"),
        ok(b"\x1f\x8b\x08\x00zipped", b"Content-Encoding: gzip\r\n"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad",
        ok(b"x" * 300_000),
    ],
    ids=["plain", "gzip", "204", "304", "chunked", "early-hints", "500", "300KB"],
)
def test_every_kind_of_framing_is_read_on_both_sides(rig: MirrorRig, answer: bytes) -> None:
    rig.monolith.default = rig.extracted.default = answer
    with rig.client() as client:
        for n in range(4):
            client.get("/f/x")
            assert rig.wait(n + 1)
    assert rig.sink.fates == {EQUAL: 4}
    assert rig.extracted.connections == 1, "it is used again"


def test_the_same_answer_in_another_framing_is_equal(rig: MirrorRig) -> None:
    rig.monolith.default = ok(b"abcde")
    rig.extracted.scripts[b"/f/chunked"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    )
    rig.extracted.scripts[b"/f/eof"] = lambda _, connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nabcde")
    rig.get("/f/chunked")
    rig.get("/f/eof")
    assert rig.wait(2)
    assert rig.sink.fates == {EQUAL: 2}


def test_head_requests_are_mirrored(rig: MirrorRig) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nX-A: 1\r\n\r\n"
    rig.monolith.default = rig.extracted.default = head
    with rig.client() as client:
        for _ in range(3):
            assert client.get("/f/x", method="HEAD").status == 200
    assert rig.wait(3)
    assert rig.sink.fates == {EQUAL: 3}


@pytest.mark.parametrize(
    ("control", "candidate"),
    [
        (ok(b"a"), ok(b"b")),
        (ok(b"a"), b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\na"),
        (ok(b"a", b"X-A: 1\r\n"), ok(b"a", b"X-A: 2\r\n")),
        (ok(b"a", b"X-A: 1\r\n"), ok(b"a")),
        (ok(b"a", b"Set-Cookie: a=1\r\n"), ok(b"a", b"Set-Cookie: a=1; Secure\r\n")),
        (ok(b"a", b"Content-Type: text/html\r\n"), ok(b"a", b"Content-Type: text/plain\r\n")),
        (ok(b"a", b"Content-Encoding: gzip\r\n"), ok(b"a")),
    ],
)
def test_any_other_difference_makes_a_pair(rig: MirrorRig, control: bytes, candidate: bytes) -> None:
    rig.monolith.default, rig.extracted.default = control, candidate
    rig.get("/f/x", "Authorization: Bearer t\r\n")
    assert rig.wait(1)
    (pair,) = rig.sink.pairs
    assert (pair.flag, pair.route, pair.method, pair.target, pair.safe) == ("f", "f", "GET", b"/f/x", True)
    assert pair.control_origin is Origin.MONOLITH
    assert len(pair.id) == 32
    assert (b"Authorization", b"Bearer t") in pair.fields
    assert (b"Host", b"example.com") in pair.fields
    assert pair.candidate.failure is None
    assert pair.candidate.duration_ms > 0


def test_a_sink_that_is_not_exact_gets_pairs_of_equal_answers_too(rig: MirrorRig) -> None:
    rig.sink.exact = False
    rig.monolith.default = rig.extracted.default = ok(b"same")
    rig.get("/f/x")
    assert rig.wait(1)
    assert rig.sink.fates == {"pair": 1}


def test_in_reverse_the_extracted_side_is_the_control() -> None:
    with mirroring(stage=Stage.EXTRACTED) as rig:
        assert rig.get("/f/x").body == b"extracted|/f/x|"
        assert rig.wait(1)
        (pair,) = rig.sink.pairs
        assert pair.control_origin is Origin.EXTRACTED
        assert (pair.control.body, pair.candidate.body) == (b"extracted|/f/x|", b"monolith|/f/x|")


def test_at_canary_each_request_is_mirrored_to_the_side_that_did_not_serve_it() -> None:
    with mirroring(stage=Stage.CANARY, weight=5_000) as rig:
        for n in range(30):
            rig.get(f"/f/{n}", f"Authorization: Bearer e30.{subject(n)}.x\r\n")
        assert rig.wait(30)
        origins = {pair.control_origin for pair in rig.sink.pairs}
        assert origins == set(Origin)
        for pair in rig.sink.pairs:
            assert pair.control.body.startswith(pair.control_origin.value.encode())
            assert pair.candidate.body.startswith(pair.control_origin.other.value.encode())


@pytest.mark.parametrize("stage", [Stage.MONOLITH, Stage.RETIRED])
def test_stages_that_do_not_mirror_mirror_nothing(rig: MirrorRig, stage: Stage) -> None:
    rig.swap(stage=stage)
    rig.get("/f/x")
    rig.get("/other")
    assert not rig.wait(1, 0.2)
    assert len(rig.monolith.seen) + len(rig.extracted.seen) == 2


def test_without_a_table_everything_is_mirrored_to_the_candidate() -> None:
    with mirroring(candidate=True, stage=Stage.MONOLITH) as rig:
        rig.get("/anything?a=1")
        rig.get("/other", method="HEAD")
        assert rig.wait(2)
        assert {(seen.flag, seen.route) for seen in rig.sink.seen} <= {("", "")}
        assert sorted(rig.extracted.targets) == [b"/anything?a=1", b"/other"]


def test_samples_count_what_they_leave_out() -> None:
    with mirroring(mirror_sample=2_500) as rig:
        rig.monolith.default = rig.extracted.default = ok(b"same", b"Content-Type: a/b\r\n")
        with rig.client() as client:
            for _ in range(200):
                client.get("/f/x")
        assert rig.wait(200)
        fates = rig.sink.fates
        assert set(fates) == {EQUAL, NOT_SAMPLED}
        assert 15 <= fates[EQUAL] <= 95
        left_out = next(seen for seen in rig.sink.seen if seen.fate == NOT_SAMPLED)
        assert (left_out.status, left_out.content_type, left_out.path) == (200, b"a/b", b"/f/x")
        assert len(rig.extracted.seen) == fates[EQUAL]


def test_a_routes_own_sample_wins_over_its_flags() -> None:
    both = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}
    with mirroring(mirror_sample=0) as rig:
        rig.routes = (
            Route(name="all", flag="f", path="/f/all", clusters=both, mirror_sample=10_000),
            Route(name="none", flag="f", path="/f/**", clusters=both),
        )
        rig.swap(stage=Stage.SHADOW, mirror_sample=0)
        rig.get("/f/all")
        rig.get("/f/none")
        assert rig.wait(2)
        assert rig.extracted.targets == [b"/f/all"]


def test_a_sticky_sample_mirrors_the_same_subjects_always() -> None:
    with mirroring(mirror_sample=5_000, bounds={"sticky": True}) as rig:
        for _ in range(3):
            for n in range(12):
                rig.get(f"/f/{n}", f"Authorization: Bearer e30.{subject(n)}.x\r\n")
        assert rig.wait(36)
        times = Counter(rig.extracted.targets)
        assert set(times.values()) == {3}
        assert 0 < len(times) < 12


def test_a_request_that_fell_back_is_compared_with_the_side_that_failed() -> None:
    with mirroring(stage=Stage.EXTRACTED, owns_data=False) as rig:
        rig.extracted.scripts[b"/f/x"] = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        assert rig.get("/f/x").body == b"monolith|/f/x|"
        assert rig.wait(1)
        (pair,) = rig.sink.pairs
        assert (pair.control_origin, pair.candidate.status) == (Origin.MONOLITH, 503)


def subject(n: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"sub": f"user{n}"}).encode()).decode().rstrip("=")
