"""The parts of the mirror that decide: proofs, marks, what has to be equal, budgets, and its settings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.headers import AnswerFields, read_answer_fields, read_request_fields
from strangler_proxy.core.route import Endpoint
from strangler_proxy.core.shadow_wire import (
    SHADOW_HEADER,
    TOO_LARGE,
    ShadowRole,
    encode_effects,
    read_request,
    request_value,
)
from strangler_proxy.forward import mirror_fields
from strangler_proxy.forward.mirror_bytes import are_same, whole
from strangler_proxy.forward.mirror_mark import Marks
from strangler_proxy.forward.mirror_proof import FIRST_PAUSE_S, HOLDS_S, LONGEST_PAUSE_S, Proofs
from strangler_proxy.serve_plan import ServePlan
from strangler_proxy.settings import ServeSettings

NEW = Endpoint(host="new", port=80)
OLD = Endpoint(host="old", port=80)
SECRET = b"a secret of the tests"


def fields(*lines: bytes) -> AnswerFields:
    return read_answer_fields([(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)])


def test_a_proof_holds_for_its_time_and_every_other_one_prolongs_it() -> None:
    proofs = Proofs()
    proofs.proved("f", NEW, 10.0)
    assert proofs.holds("f", NEW, 10.0 + HOLDS_S - 0.1)
    assert not proofs.holds("f", NEW, 10.0 + HOLDS_S)
    proofs.proved("f", NEW, 60.0)
    assert proofs.holds("f", NEW, 60.0 + HOLDS_S - 0.1)
    proofs.kept("f", NEW, 100.0)
    assert proofs.holds("f", NEW, 100.0 + HOLDS_S - 0.1)


def test_a_write_alone_proves_nothing() -> None:
    proofs = Proofs()
    proofs.kept("f", NEW, 10.0)
    assert not proofs.holds("f", NEW, 10.0)


def test_a_proof_of_one_flag_or_endpoint_is_none_of_another() -> None:
    proofs = Proofs()
    proofs.proved("f", NEW, 10.0)
    assert not proofs.holds("g", NEW, 10.0)
    assert not proofs.holds("f", OLD, 10.0)
    assert proofs.why_not("f", (OLD, NEW), 10.0) == ""
    assert proofs.why_not("f", (OLD,), 10.0) == "not_declared_safe"


def test_what_was_withdrawn_has_to_be_proved_again_after_a_pause_that_doubles() -> None:
    proofs, now, pause_s = Proofs(), 10.0, FIRST_PAUSE_S
    proofs.proved("f", NEW, now)
    for _ in range(30):
        proofs.withdrawn("f", NEW, now)
        assert proofs.why_not("f", (NEW,), now) == "no_proof"
        assert proofs.lost(now) == ["f new:80"]
        proofs.proved("f", NEW, now + pause_s - 0.1)
        assert not proofs.holds("f", NEW, now + pause_s - 0.1)
        now += pause_s
        proofs.proved("f", NEW, now)
        assert proofs.holds("f", NEW, now)
        assert proofs.lost(now) == []
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


@pytest.mark.parametrize("flag", ["", "payments"])
def test_the_quick_mark_is_the_one_of_the_wire(flag: str) -> None:
    marks = Marks(SECRET)
    marks.clock = lambda: 1_700_000_000.5
    id_ = marks.new_id()
    head = marks.marked(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id_, flag)
    value = request_value(marks.keys, role=ShadowRole.MIRROR, id=id_, at=1_700_000_000.5, flag=flag)
    assert head == f"GET / HTTP/1.1\r\nHost: a\r\n{SHADOW_HEADER}: {value}\r\n\r\n".encode()
    read = read_request(marks.keys, value, now=1_700_000_000)
    assert read is not None
    assert read.flag == flag


def test_ids_differ() -> None:
    marks = [Marks(SECRET), Marks(SECRET)]
    assert len({each.new_id() for each in marks for _ in range(1_000)}) == 2_000


def test_dates_ids_and_framing_are_not_compared_all_else_is() -> None:
    ours = fields(b"Date: 1", b"Content-Length: 5", b"X-Request-Id: a", b"Server: x", b"ETag: e")
    theirs = fields(b"etag: e", b"Date: 2", b"Transfer-Encoding: chunked", b"server: y", b"Traceparent: z")
    assert mirror_fields.compared(ours)[0] == mirror_fields.compared(theirs)[0]
    for other in (b"ETag: E", b"Set-Cookie: a=1", b"Content-Type: a/b", b"Content-Encoding: gzip", b"Location: /"):
        assert mirror_fields.compared(fields(b"ETag: e", other))[0] != mirror_fields.compared(ours)[0]


def test_order_and_number_of_fields_count() -> None:
    one = mirror_fields.compared(fields(b"Set-Cookie: a=1", b"Set-Cookie: b=2"))
    assert one != mirror_fields.compared(fields(b"Set-Cookie: b=2", b"Set-Cookie: a=1"))
    assert one != mirror_fields.compared(fields(b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Set-Cookie: b=2"))


def test_what_a_side_says_of_itself_is_kept_apart() -> None:
    found = fields(
        b"X-Strangler-Effects: 1/2; AA==",
        b"X-Strangler-Effects: 2/2; AA==",
        b"X-Strangler-Shadow-Proof: ab",
        b"X-Strangler-Version: v7",
        b"X_Strangler_Effects: forged",
        b"X-A: 1",
    )
    assert mirror_fields.effects(found) == ["1/2; AA==", "2/2; AA=="]
    assert (mirror_fields.proof(found), mirror_fields.code_version(found)) == ("ab", "v7")
    assert mirror_fields.raw_fields(found) == ((b"X-A", b"1"),)


@pytest.mark.parametrize(
    ("lines", "is_signed_in"),
    [
        ([], False),
        ([(b"Cookie", b"theme=dark")], False),
        ([(b"Cookie", b"sessionid=x")], True),
        ([(b"Authorization", b"Basic x")], True),
    ],
)
def test_signed_in_is_a_session_cookie_or_authorization(lines: list[tuple[bytes, bytes]], is_signed_in: bool) -> None:
    read = read_request_fields([(b"Host", b"a"), *lines])
    assert mirror_fields.signed_in(read) is is_signed_in
    assert mirror_fields.signed_in(read) is is_signed_in


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"candidate": "https://new"}, "STRANGLER_CANDIDATE"),
        ({"candidate": "http://new", "database_url": "postgresql://x/y"}, "STRANGLER_CANDIDATE"),
        ({"candidate": "http://new", "upstream": ""}, "STRANGLER_CANDIDATE"),
        ({"shadow": "101%"}, "STRANGLER_SHADOW"),
        ({"shadow": "much"}, "STRANGLER_SHADOW"),
        ({"candidate": "http://new", "evidence": "/no/such/folder/x.sqlite"}, "STRANGLER_EVIDENCE"),
        ({"candidate": "http://new", "evidence": "/"}, "STRANGLER_EVIDENCE"),
        ({"report": "report.html"}, "STRANGLER_REPORT"),
        ({"candidate": "http://new", "shadow_secret": "short"}, "STRANGLER_SHADOW_SECRET"),
    ],
)
def test_settings_of_shadow_mode_that_make_no_sense_stop_the_start(given: dict[str, str], problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        ServePlan.of(ServeSettings(**({"upstream": "http://old"} | given)))  # type: ignore[arg-type]


def test_nothing_is_mirrored_without_a_candidate_or_a_table_or_with_a_share_of_nothing() -> None:
    assert ServePlan.of(ServeSettings(upstream="http://old")).mirror is None
    off = ServeSettings(upstream="http://old", candidate="http://new", shadow="0")
    assert ServePlan.of(off).mirror is None
    on = ServePlan.of(ServeSettings(upstream="http://old", candidate="http://new", shadow="12.5%")).mirror
    assert on is not None
    assert on.share == 1_250
    assert len(on.secret) >= 16
    by_table = ServePlan.of(ServeSettings(database_url="postgresql://x/y")).mirror
    assert by_table is not None
    assert by_table.candidate is None


def test_evidence_is_a_file_here_or_the_control_database() -> None:
    assert ServeSettings(upstream="http://old").evidence_url.endswith("/strangler-shadow.sqlite")
    assert ServeSettings(evidence="a b.sqlite").evidence_url.startswith("sqlite:///")
    assert ServeSettings(evidence="a b.sqlite").evidence_url.endswith("/a%20b.sqlite")
    assert ServeSettings(database_url="postgresql://x/y").evidence_url == "postgresql://x/y"
    assert ServeSettings(database_url="postgresql://x/y", evidence="sqlite:///z").evidence_url == "sqlite:///z"


@given(body=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6), other=st.lists(st.integers(0, 60)))
def test_bodies_in_any_parts_are_put_together_and_compared_as_wholes(
    body: bytes, cuts: list[int], other: list[int]
) -> None:
    ours, theirs = in_parts(b"HEAD" + body, cuts), in_parts(b"X" + body, other)
    assert whole(ours, 4) == whole(theirs, 1) == body
    assert are_same(ours, 4, theirs, 1)
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        assert not are_same(ours, 4, in_parts(b"X" + changed, other), 1)


def in_parts(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut it behind its first five bytes at most, so that what is skipped is in the first part; no part is empty."""
    places = sorted({min(max(cut, 5), len(data)) for cut in cuts} | {0, len(data)})
    return [part for start, end in itertools.pairwise(places) if (part := data[start:end])]


def test_effects_are_the_same_whatever_would_undo_them() -> None:
    """Only the side whose rows have to be put back says how they were; both did the same."""
    effects = [{"kind": "row", "detail": {"table": "payment", "values": {"amount": 5}}}]
    plain, other = (", ".join(encode_effects(each)) for each in (effects, [{"kind": "mail", "detail": {}}]))
    undoing = ", ".join(encode_effects(effects, [{"table": "payment", "key": 7}]))
    assert plain != undoing
    assert mirror_fields.are_same_effects(plain, undoing)
    assert mirror_fields.are_same_effects("", "")
    assert not mirror_fields.are_same_effects(plain, other)
    assert not mirror_fields.are_same_effects(plain, "")
    assert not mirror_fields.are_same_effects(plain, "1/1; !")
    assert not mirror_fields.are_same_effects(TOO_LARGE, TOO_LARGE), "what nobody saw is not the same"
