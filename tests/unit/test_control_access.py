"""Who may call the control plane, with time as an argument."""

from __future__ import annotations

import pytest

from strangler_proxy.control.access import FAILURES, WINDOW_S, Access, Rights, is_cross_site

TOKEN, VIEWER = "operator-token-123", "viewer-token-1234"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(TOKEN, VIEWER, now=clock)


@pytest.mark.parametrize(
    ("header", "rights"),
    [
        (f"Bearer {TOKEN}", Rights.WRITE),
        (f"bearer {TOKEN}", Rights.WRITE),
        (f"Bearer {VIEWER}", Rights.READ),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        (TOKEN, None),
        (f"Basic {TOKEN}", None),
        (f"Bearer {TOKEN}x", None),
        (f"Bearer {TOKEN[:-1]}", None),
        ("Bearer \udcff", None),
    ],
)
def test_only_the_tokens_open(access: Access, header: str, rights: Rights | None) -> None:
    assert access.rights("a", header) is rights


def test_an_empty_viewer_token_is_none(clock: Clock) -> None:
    assert Access(TOKEN, "", now=clock).rights("a", "Bearer ") is None


def test_an_address_that_guesses_is_shut_out_until_its_oldest_guess_is_a_minute_old(
    access: Access, clock: Clock
) -> None:
    for _ in range(FAILURES):
        assert access.wait_s("a") == 0
        access.rights("a", "Bearer wrong")
        clock.now += 1
    assert access.wait_s("a") == WINDOW_S - FAILURES
    assert access.wait_s("b") == 0
    clock.now += WINDOW_S - FAILURES
    assert access.wait_s("a") == 0
    access.rights("a", "Bearer wrong")
    assert access.wait_s("a") > 0, "the next wrong one shuts it again: nine are still remembered"


def test_a_call_without_any_token_is_no_guess(access: Access) -> None:
    for _ in range(FAILURES * 2):
        access.rights("a", "")
    assert access.wait_s("a") == 0


def test_what_is_remembered_is_bounded(access: Access) -> None:
    for number in range(10_000):
        access.rights(str(number), "Bearer wrong")
    assert len(access._failures) <= 4096


@pytest.mark.parametrize(
    ("headers", "crosses"),
    [
        ({}, False),
        ({"host": "here:1"}, False),
        ({"host": "here:1", "origin": "http://here:1"}, False),
        ({"host": "here:1", "origin": "http://HERE:1"}, False),
        ({"host": "here:1", "origin": "http://here:2"}, True),
        ({"host": "here:1", "origin": "null"}, True),
        ({"host": "here:1", "origin": ""}, True),
        ({"host": "here:1", "sec-fetch-site": "same-origin"}, False),
        ({"host": "here:1", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_pages_of_other_sites_are_told_apart(headers: dict[str, str], crosses: bool) -> None:
    assert is_cross_site(headers) is crosses
