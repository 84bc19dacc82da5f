"""Which side serves: owner, kill switch, override, own writes, buckets and cookies; fallback and access."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.core.bucketing import bucket
from strangler_proxy.core.route import Access, Predicate, Route
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Answer, Rig, Seen, rig

BOTH = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}


@pytest.fixture
def engine() -> Iterator[Rig]:
    with rig() as made:
        yield made


def side(answer: Answer) -> str:
    return answer.body.partition(b"|")[0].decode()


def cookie_of(answer: Answer, name: str) -> str:
    (found,) = [v.decode() for v in answer.values("set-cookie") if v.startswith(name.encode() + b"=")]
    return found.partition(";")[0]


def token(subject: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    return f"Authorization: Bearer e30.{claims}.sig\r\n"


@pytest.mark.parametrize(
    ("stage", "safe", "unsafe"),
    [
        (Stage.MONOLITH, "monolith", "monolith"),
        (Stage.SHADOW, "monolith", "monolith"),
        (Stage.EXTRACTED, "extracted", "extracted"),
        (Stage.RETIRED, "extracted", "extracted"),
    ],
)
def test_stages_send_requests_where_their_table_says(engine: Rig, stage: Stage, safe: str, unsafe: str) -> None:
    engine.swap(stage=stage)
    assert side(engine.get("/f/x")) == safe
    assert side(engine.get("/f/x", method="POST", body=b"{}")) == unsafe


def test_what_no_route_matches_goes_to_the_default_cluster(engine: Rig) -> None:
    engine.swap(stage=Stage.EXTRACTED)
    answer = engine.get("/other")
    assert side(answer) == "monolith"
    assert answer.values("set-cookie") == []
    assert engine.monolith.seen[0].values("x-strangler-flag") == []


def test_unsafe_requests_go_to_the_owner_whatever_the_weight(engine: Rig) -> None:
    engine.swap(stage=Stage.CANARY, weight=10_000)
    assert side(engine.get("/f/x")) == "extracted"
    assert side(engine.get("/f/x", method="POST", body=b"{}")) == "monolith"
    assert engine.monolith.seen[0].values("x-strangler-flag") == [b"f"]


def test_a_bucket_follows_the_token_s_subject(engine: Rig) -> None:
    engine.swap(stage=Stage.CANARY, weight=5_000, salt="s")
    for number in range(20):
        wanted = "extracted" if bucket("s", f"user{number}") < 5_000 else "monolith"
        answer = engine.get("/f/x", token(f"user{number}"))
        assert side(answer) == wanted
        assert answer.values("set-cookie") == []


def test_a_visitor_keeps_its_side_from_the_first_answer_on_and_through_sign_in(engine: Rig) -> None:
    for weight in (3_000, 5_000, 7_000):
        engine.swap(stage=Stage.CANARY, weight=weight)
        first = engine.get("/f/x")
        cookie = cookie_of(first, "strangler_visitor")
        visitor = engine.signer.visitor(cookie.partition("=")[2])
        assert visitor is not None
        assert (bucket("", visitor) < weight) is (side(first) == "extracted")
        for fields in ("", token("ada"), token("bob")):
            again = engine.get("/f/x", f"Cookie: a=1; {cookie}\r\n{fields}")
            assert side(again) == side(first)
            assert again.values("set-cookie") == []


def test_a_visitor_cookie_that_is_not_ours_is_replaced(engine: Rig) -> None:
    answer = engine.get("/f/x", "Cookie: strangler_visitor=me.0123456789abcdef0123456789abcdef\r\n")
    line = next(v for v in answer.values("set-cookie") if v.startswith(b"strangler_visitor="))
    assert b"HttpOnly" in line
    assert b"SameSite=Lax" in line
    assert b"Max-Age=31536000" in line


def test_lists_win_over_buckets(engine: Rig) -> None:
    engine.swap(stage=Stage.CANARY, weight=0, allow=frozenset({"ada"}), deny=frozenset({"bob"}))
    assert side(engine.get("/f/x", token("ada"))) == "extracted"
    engine.swap(stage=Stage.CANARY, weight=10_000, deny=frozenset({"bob"}))
    assert side(engine.get("/f/x", token("bob"))) == "monolith"


def test_a_signed_override_chooses_and_is_told_why(engine: Rig) -> None:
    good = engine.signer.override("f", Origin.EXTRACTED, int(time.time()) + 60)
    answer = engine.get("/f/x", f"X-Strangler-Override: {good}\r\n")
    assert side(answer) == "extracted"
    assert answer.values("x-strangler-origin") == [b"extracted"]
    assert answer.values("x-strangler-reason") == [b"override"]
    assert engine.extracted.seen[0].values("x-strangler-override") == []
    expired = engine.signer.override("f", Origin.EXTRACTED, int(time.time()) - 1)
    other = engine.signer.override("g", Origin.EXTRACTED, int(time.time()) + 60)
    for bad in (good.replace("f=", "g="), good[:-1] + "01"[good[-1] == "0"], expired, other, "f=extracted"):
        answer = engine.get("/f/x", f"X-Strangler-Override: {bad}\r\n")
        assert side(answer) == "monolith"
        assert answer.values("x-strangler-origin") == []


def test_an_override_does_not_move_writes(engine: Rig) -> None:
    good = engine.signer.override("f", Origin.EXTRACTED, int(time.time()) + 60)
    answer = engine.get("/f/x", f"X-Strangler-Override: {good}\r\n", method="POST", body=b"{}")
    assert side(answer) == "monolith"


def test_the_kill_switch_sends_reads_back_and_stops_writes_of_moved_data(engine: Rig) -> None:
    engine.swap(stage=Stage.EXTRACTED)
    engine.call(lambda: engine.state.set_killed(frozenset({"f"})))
    assert side(engine.get("/f/x")) == "monolith"
    answer = engine.get("/f/x", method="POST", body=b"{}")
    assert answer.status == 503
    assert answer.values("retry-after") == [b"1"]
    assert json.loads(answer.body)["code"] == "killed"
    assert side(engine.get("/plain/x")) == "extracted"
    engine.call(lambda: engine.state.set_killed(frozenset({"*"})))
    assert side(engine.get("/plain/x")) == "monolith"
    engine.call(lambda: engine.state.set_killed(frozenset()))
    assert side(engine.get("/f/x")) == "extracted"


def test_a_retired_flag_never_reads_the_dead_copy(engine: Rig) -> None:
    engine.swap(stage=Stage.RETIRED)
    engine.call(lambda: engine.state.set_killed(frozenset({"f"})))
    assert engine.get("/f/x").status == 503
    engine.call(lambda: engine.state.set_killed(frozenset()))
    engine.extracted.stop()
    assert engine.get("/f/x").status == 502
    assert engine.monolith.seen == []


class TestReadYourWrites:
    """After a write, reads of the same client go to the owner until the copy is complete."""

    @pytest.fixture
    def canary(self, engine: Rig) -> Rig:
        engine.swap(stage=Stage.CANARY, weight=10_000)
        engine.call(lambda: engine.state.note_clock(dt.datetime.now(dt.UTC)))
        return engine

    def test_by_cookie(self, canary: Rig) -> None:
        written = canary.get("/f/x", "X-Forwarded-For: 1.1.1.1\r\n", method="POST", body=b"{}")
        cookie = cookie_of(written, "strangler_ryw")
        visitor = f"strangler_visitor={canary.signer.visitor_cookie('somebody else')}"
        assert side(canary.get("/f/x", f"Cookie: {visitor}\r\n")) == "extracted"
        assert side(canary.get("/f/x", f"Cookie: {visitor}; {cookie}\r\n")) == "monolith"
        assert side(canary.get("/f/x", f"Cookie: {visitor}; {cookie[:-1]}x\r\n")) == "extracted"
        marked_by = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.05)  # marks are rounded up
        canary.call(lambda: canary.state.note_replicated({"f": marked_by}))
        assert side(canary.get("/f/x", f"Cookie: {visitor}; {cookie}\r\n")) == "extracted"

    def test_by_subject_without_cookies(self, canary: Rig) -> None:
        assert side(canary.get("/f/x", token("ada"))) == "extracted"
        canary.get("/f/x", token("ada"), method="POST", body=b"{}")
        assert side(canary.get("/f/x", token("ada"))) == "monolith"
        assert side(canary.get("/f/x", token("bob"))) == "extracted"

    def test_no_longer_than_the_window(self) -> None:
        with rig(Options(own_write_s=0.2), stage=Stage.CANARY, weight=10_000) as engine:
            cookie = cookie_of(engine.get("/f/x", method="POST", body=b"{}"), "strangler_ryw")
            assert side(engine.get("/f/x", f"Cookie: {cookie}\r\n")) == "monolith"
            time.sleep(0.25)
            assert side(engine.get("/f/x", f"Cookie: {cookie}\r\n")) == "extracted"

    def test_not_for_flags_without_data(self, canary: Rig) -> None:
        answer = canary.get("/plain/x", method="POST", body=b"{}")
        assert not [v for v in answer.values("set-cookie") if v.startswith(b"strangler_ryw")]


class TestFallback:
    """Safe requests go to the monolith where extracted gives nothing."""

    def test_when_it_cannot_be_reached(self, engine: Rig) -> None:
        engine.swap(stage=Stage.EXTRACTED)
        engine.extracted.stop()
        assert side(engine.get("/f/x")) == "monolith"
        answer = engine.get("/f/x", method="POST", body=b"{}")
        assert answer.status == 502
        assert answer.values("proxy-status") == [b"strangler-proxy; error=connection_refused"]
        assert b"127.0.0.1" not in answer.head + answer.body
        assert str(engine.extracted.port).encode() not in answer.head + answer.body
        assert engine.metrics.value("strangler_proxy_fallbacks_total", route="f") == 1

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 2", b"nonsense\r\n\r\n", b""])
    def test_when_it_answers_nonsense(self, engine: Rig, answer: bytes) -> None:
        def broken(_: Seen, connection: object) -> None:
            connection.sendall(answer)  # type: ignore[attr-defined]

        engine.swap(stage=Stage.EXTRACTED)
        engine.extracted.default = broken
        assert side(engine.get("/f/x")) == "monolith"
        assert engine.get("/f/x", method="POST", body=b"{}").status == 502

    def test_not_where_the_flag_says_no(self, engine: Rig) -> None:
        engine.swap(stage=Stage.EXTRACTED, fallback_safe=False)
        engine.extracted.stop()
        assert engine.get("/f/x").status == 502

    def test_not_for_an_answer_of_the_service_itself(self, engine: Rig) -> None:
        engine.swap(stage=Stage.EXTRACTED)
        engine.extracted.default = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        assert engine.get("/f/x").status == 500


def test_access_is_judged_at_the_edge(engine: Rig) -> None:
    engine.routes = (
        Route(name="closed", flag="f", path="/f/internal", clusters=BOTH, access=Access.CLOSED),
        Route(name="bearer", flag="f", path="/f/mine", clusters=BOTH, access=Access.BEARER),
        Route(name="f", flag="f", path="/f/**", clusters=BOTH),
    )
    engine.swap()
    assert engine.get("/f/internal").status == 404
    assert engine.get("/f/%69nternal").status == 404
    refused = engine.get("/f/mine")
    assert refused.status == 401
    assert refused.values("www-authenticate") == [b"Bearer"]
    assert refused.values("content-type") == [b"application/problem+json"]
    assert engine.get("/f/mine", "Authorization: Basic abc\r\n").status == 401
    assert engine.monolith.seen == []
    assert engine.get("/f/mine", "Authorization: Bearer abc\r\n").status == 200
    assert engine.get("/f/mine", "Cookie: sessionid=abc\r\n").status == 200


def test_routes_with_predicates_are_matched_on_what_was_sent(engine: Rig) -> None:
    engine.routes = (
        Route(name="v2", flag="f", path="/f/x", clusters=BOTH, headers=(Predicate(name="X-Version", value="2"),)),
        Route(name="q", flag="g", path="/f/y", clusters=BOTH, query=(Predicate(name="beta"),)),
    )
    engine.swap()
    for fields, target, flag in (("X-Version: 2\r\n", "/f/x", b"f"), ("", "/f/y?a=1&beta=", b"g")):
        engine.get(target, fields)
        assert engine.monolith.seen[-1].values("x-strangler-flag") == [flag]
    for fields, target in (("X-Version: 3\r\n", "/f/x"), ("", "/f/x"), ("", "/f/y?betas=1")):
        engine.get(target, fields)
        assert engine.monolith.seen[-1].values("x-strangler-flag") == []


def test_a_swap_takes_effect_with_the_next_request_of_a_kept_connection(engine: Rig) -> None:
    with engine.client() as client:
        for number in range(20):
            stage = Stage.EXTRACTED if number % 2 else Stage.MONOLITH
            engine.swap(stage=stage)
            assert side(client.get("/plain/x")) == ("extracted" if number % 2 else "monolith")


def test_metrics_count_by_route_and_origin(engine: Rig) -> None:
    engine.monolith.scripts[b"/f/no"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    for target in ("/f/x", "/f/x", "/f/no", "/other"):
        engine.get(target)
    text = engine.call(lambda: (engine.engine.publish(), engine.metrics.render())[1])
    assert 'strangler_proxy_requests_total{route="f",origin="monolith",code="2xx"} 2' in text
    assert 'strangler_proxy_requests_total{route="f",origin="monolith",code="4xx"} 1' in text
    assert 'strangler_proxy_requests_total{route="-",origin="-",code="2xx"} 1' in text
    assert 'strangler_proxy_request_duration_seconds_count{route="f",origin="monolith"} 3' in text
