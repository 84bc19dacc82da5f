"""Targets: what is matched is what the upstream sees, or the request is refused."""

from __future__ import annotations

import time
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.errors import MalformedTarget
from strangler_proxy.core.paths import canonical, host_name, is_host, query_fields, read_target

segments = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("Cc", "Cs")), min_size=1)


@given(st.lists(segments, min_size=1, max_size=5))
def test_what_is_matched_is_what_a_server_decodes(parts: list[str]) -> None:
    raw = "/" + "/".join(quote(part, safe="!$&'()*+,;=:@~") for part in parts)
    dots = any(part.partition(";")[0] in (".", "..") for part in parts)
    if dots:
        with pytest.raises(MalformedTarget):
            canonical(raw.encode())
    else:
        assert canonical(raw.encode()) == "/" + "/".join(parts) == unquote(raw)


@given(st.binary(max_size=40))
def test_a_path_is_read_in_one_way_or_refused(tail: bytes) -> None:
    raw = b"/" + tail
    try:
        path = canonical(raw)
    except MalformedTarget:
        return
    assert path.count("/") == raw.count(b"/"), "decoding made or lost a segment"
    assert not any(part in (".", "..") for part in path.split("/"))
    assert not any(ord(c) < 0x20 or ord(c) == 0x7F or c == "\\" for c in path)
    assert not path.startswith("//")


@given(st.text(st.sampled_from("/.%25eEfFcC0aA;\\"), max_size=16))
def test_no_spelling_of_dots_and_slashes_gets_through(tail: str) -> None:
    raw = b"/" + tail.encode()
    try:
        path = canonical(raw)
    except MalformedTarget:
        return
    assert "/../" not in path + "/"
    assert "/./" not in path + "/"


@pytest.mark.parametrize(
    "raw",
    ["/a%2Fb", "/a%2fb", "/..", "/a/../b", "/%2e%2e/b", "/.", "/a/%2E", "/a%5cb", "/a\\b", "//a", "/a%00", "/a%0a",
     "/a%", "/a%4", "/a%zz", "/%c0%ae", "/%c1%81", "/%e0%80%af", "/%f0%80%80%af", "/%ff", "/..;a/b"],
)  # fmt: skip
def test_it_is_refused(raw: str) -> None:
    with pytest.raises(MalformedTarget):
        canonical(raw.encode())


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/", "/"), ("/a//b/", "/a//b/"), ("/a;v=1/b", "/a;v=1/b"), ("/%7Eq", "/~q"), ("/a%20b", "/a b"), ("/..a", "/..a"),
     ("/%252F", "/%2F"), ("/.well-known/x", "/.well-known/x"), ("/caf%C3%A9", "/café")],
)  # fmt: skip
def test_it_is_matched_as(raw: str, path: str) -> None:
    assert canonical(raw.encode()) == path


def test_bytes_that_are_no_utf_8_match_parameters_only() -> None:
    assert canonical(b"/caf%E9") == "/caf\udce9"


def test_a_long_path_costs_linear_time() -> None:
    began = time.perf_counter()
    for raw in (b"/" + b"a" * 8000 + b"%20", b"/" + b"a/" * 4000 + b"%20", b"/" + b"a.a/" * 2000 + b"\\"):
        try:
            canonical(raw)
        except MalformedTarget:
            pass
    assert time.perf_counter() - began < 0.5


@given(st.binary(max_size=30))
def test_a_target_never_raises_anything_else(target: bytes) -> None:
    try:
        found = read_target(b"GET", target, b"example.com")
    except MalformedTarget:
        return
    assert found.sent[:1] == b"/"


def test_absolute_form_is_for_this_host_only() -> None:
    assert read_target(b"GET", b"http://H:80/a?b", b"h:80").sent == b"/a?b"
    assert read_target(b"GET", b"http://h", b"h").sent == b"/"
    for target in (b"http://other/a", b"http://h:81/a", b"http://u@h/a", b"ftp://h/a", b"h/a", b""):
        with pytest.raises(MalformedTarget):
            read_target(b"GET", target, b"h")


def test_an_asterisk_is_for_options_only() -> None:
    assert read_target(b"OPTIONS", b"*", b"h").path == "*"
    with pytest.raises(MalformedTarget):
        read_target(b"GET", b"*", b"h")


@pytest.mark.parametrize("host", [b"a", b"a.b-c:80", b"127.0.0.1:1", b"[::1]:80", b"a_b"])
def test_hosts(host: bytes) -> None:
    assert is_host(host)


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b"u@a", b"a,b", b"a:b", b"[::1", b"a:123456", b'a"', b"a\r"])
def test_what_is_no_host(host: bytes) -> None:
    assert not is_host(host)


def test_host_names_lose_case_and_port() -> None:
    assert host_name(b"Example.COM:80") == "example.com"
    assert host_name(b"[::1]:80") == "[::1]"


def test_query_fields_are_bounded() -> None:
    assert query_fields(b"a=1&b=&a=2&c=%2F") == {"a": "1", "b": "", "c": "/"}
    assert query_fields(b"a&" * 1000) == {}
