"""Marks of the proxy cannot be made, changed or used for something else."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin

SECRET = b"0123456789abcdef"
signer = Signer(SECRET)
flags = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16"):
        Signer(b"short")


@given(st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True))
def test_a_visitor_comes_back(visitor: str) -> None:
    value = signer.visitor_cookie(visitor)
    assert signer.visitor(value) == visitor
    assert Signer(b"another secret 1").visitor(value) is None


@settings(max_examples=30)
@given(st.dictionaries(flags, st.floats(0, 4e9), min_size=1, max_size=5))
def test_own_writes_come_back_to_the_millisecond(written: dict[str, float]) -> None:
    found = signer.own_writes(signer.own_writes_cookie(written))
    assert found == pytest.approx(written, abs=0.001)


@given(st.integers(0, 200), st.characters(codec="latin-1"))
def test_one_changed_character_is_noticed(at: int, other: str) -> None:
    for value, read in (
        (signer.visitor_cookie("ada"), signer.visitor),
        (signer.own_writes_cookie({"f": 1.5}), signer.own_writes),
        (signer.override("f", Origin.EXTRACTED, 100), lambda v: signer.read_override(v, 50)),
    ):
        place = at % len(value)
        if value[place].lower() != other.lower() and not other.isspace():
            assert not read(value[:place] + other + value[place + 1 :])


def test_a_mark_for_one_purpose_is_none_for_another() -> None:
    text = b"same"
    assert len({signer.sign(purpose, text) for purpose in ("visitor", "own-writes", "override", "table")}) == 4
    assert not signer.verify("table", text, signer.sign("visitor", text))


def test_an_override_is_plain_hmac_that_anybody_with_the_secret_can_make() -> None:
    text = "f=extracted; exp=100"
    made = f"{text}; sig={hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()}"
    assert made == signer.override("f", Origin.EXTRACTED, 100)
    assert signer.read_override(made, 99.0) == ("f", Origin.EXTRACTED)
    assert signer.read_override(made, 101.0) is None


@given(st.text(max_size=60))
def test_nonsense_is_never_valid(text: str) -> None:
    assert signer.visitor(text) is None
    assert signer.own_writes(text) == {}
    assert signer.read_override(text, 0) is None
