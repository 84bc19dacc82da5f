"""What an intermediary does to fields."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import (
    Fields,
    cookie,
    passes_through,
    read_answer_fields,
    read_request_fields,
    trailer_lines,
)

HOST = (b"Host", b"example.com")
names = st.from_regex(rb"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
field_values = st.from_regex(rb"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True)
SPECIAL = (b"x-strangler", b"x-forwarded")


def names_of(block: bytes) -> list[bytes]:
    return [line.partition(b":")[0] for line in block.split(b"\r\n") if line]


@settings(max_examples=30)
@given(st.lists(st.tuples(names, field_values), max_size=12))
def test_fields_without_a_meaning_for_us_stay_as_they_came(fields: Fields) -> None:
    from strangler_proxy.core.headers import REQUEST_KINDS

    kept = [(n, v) for n, v in fields if n.lower() not in REQUEST_KINDS and not n.lower().startswith(SPECIAL)]
    block = read_request_fields([HOST, *kept]).block
    assert block == b"".join(b"%b: %b\r\n" % field for field in [HOST, *kept])


@given(st.lists(st.sampled_from([b"X-A", b"x-a", b"X-B", b"X-C"]), max_size=8), st.sampled_from([b"x-a", b"X-B"]))
def test_what_connection_names_is_dropped_in_any_case_and_place(sent: list[bytes], named: bytes) -> None:
    fields = [(name, b"1") for name in sent]
    for at in (0, len(fields)):
        whole = [HOST, *fields[:at], (b"Connection", b"close, " + named), *fields[at:]]
        left = names_of(read_request_fields(whole).block)
        assert left == [b"Host", *(name for name in sent if name.lower() != named.lower())]


def test_connection_cannot_name_what_frames_or_routes_a_message() -> None:
    fields = [HOST, (b"Connection", b"Host, Content-Length"), (b"Content-Length", b"3")]
    assert names_of(read_request_fields(fields).block) == [b"Host", b"Content-Length"]


@settings(max_examples=40)
@given(st.sampled_from([b"Strangler-Fence", b"Forwarded-For", b"Forwarded-Whatever", b"Strangler-Anything"]), st.data())
def test_no_spelling_of_a_trusted_name_gets_through(rest: bytes, data: st.DataObject) -> None:
    name = b"X-" + rest
    spelled = bytes(
        data.draw(st.sampled_from([c, c ^ 0x20])) if chr(c).isalpha() else data.draw(st.sampled_from(b"-_"))
        for c in name
    )
    assert names_of(read_request_fields([HOST, (spelled, b"1")]).block) == [b"Host"]


@pytest.mark.parametrize(
    "name", [b"Content_Length", b"transfer_encoding", b"HOST_", b"X_Request_Id", b"proxy_connection"]
)
def test_special_names_written_with_underscores_are_dropped(name: bytes) -> None:
    left = names_of(read_request_fields([HOST, (name, b"1")]).block)
    assert left == [b"Host"] or name == b"HOST_"


@pytest.mark.parametrize(
    "fields",
    [
        [HOST, HOST],
        [(b"Host", b"a b")],
        [(b"Host", b"")],
        [HOST, (b"Content-Length", b"1"), (b"Content-Length", b"1")],
        [HOST, (b"Content-Length", b"+1")],
        [HOST, (b"Content-Length", b"1, 1")],
        [HOST, (b"Transfer-Encoding", b"gzip")],
        [HOST, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(fields: Fields) -> None:
    with pytest.raises(MalformedFields):
        read_request_fields(fields)


def test_a_request_with_nothing_special_is_plain() -> None:
    assert read_request_fields([HOST, (b"Accept", b"*/*"), (b"Cookie", b"a=1")]).plain
    for field in [(b"Via", b"1.1 x"), (b"Expect", b"100-continue"), (b"Content-Length", b"1"), (b"traceparent", b"x")]:
        assert not read_request_fields([HOST, field]).plain


def test_an_answer_loses_hop_by_hop_fields_and_ours() -> None:
    found = read_answer_fields(
        [
            (b"Content-Length", b"5"),
            (b"Set-Cookie", b"a=1"),
            (b"Connection", b"keep-alive, X-Hop"),
            (b"X-Hop", b"1"),
            (b"Set-Cookie", b"b=2"),
            (b"Keep-Alive", b"timeout=5"),
            (b"X-Strangler-Fence", b"value"),
            (b"x_strangler_anything", b"1"),
            (b"X-Request-Id", b"theirs"),
        ]
    )
    assert found.block == b"Content-Length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
    assert (found.fence, found.content_length) == (b"value", 5)


def test_codings_of_an_answer_that_we_do_not_know_are_noted() -> None:
    assert read_answer_fields([(b"Transfer-Encoding", b"chunked")]).chunked
    for value in (b"gzip", b"gzip, chunked", b"identity"):
        found = read_answer_fields([(b"Transfer-Encoding", value)])
        assert found.coded
        assert not found.chunked


def test_trailers_may_not_frame_route_or_authenticate() -> None:
    sent = [
        (b"X-Sum", b"1"),
        (b"Content-Length", b"5"),
        (b"Host", b"evil"),
        (b"Authorization", b"x"),
        (b"X_Forwarded_For", b"1"),
    ]
    assert trailer_lines(sent) == [b"X-Sum", b": ", b"1", b"\r\n"]


@settings(max_examples=30)
@given(
    st.dictionaries(st.from_regex(rb"[a-z]{1,8}", fullmatch=True), st.from_regex(rb"[a-z0-9.=]{0,12}", fullmatch=True))
)
def test_a_cookie_is_found_among_others(jar: dict[bytes, bytes]) -> None:
    header = b"; ".join(b"%b=%b" % item for item in jar.items())
    for name, value in jar.items():
        assert cookie(header, name) == value
    assert cookie(header, b"not there") is None


def test_a_loop_is_our_whole_name_in_a_via_entry() -> None:
    assert passes_through(b"1.0 a,1.1 me", b"me")
    assert not passes_through(b"1.1 melon, 1.1 a (me)", b"me")
