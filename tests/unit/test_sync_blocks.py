"""COPY text: what is decoded of it is what was encoded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.sync.blocks import values_of

VALUES = st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
ESCAPED = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def encoded(value: str | None) -> str:
    """As the server's documentation says that COPY TO writes it."""
    return "\\N" if value is None else "".join(ESCAPED.get(character, character) for character in value)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_every_value_comes_back(row: list[str | None]) -> None:
    line = ("\t".join(encoded(value) for value in row) + "\n").encode()
    assert values_of(line, range(len(row))) == tuple(row)


@given(st.text(alphabet="\\Nnt\t\n", max_size=12))
def test_backslashes_in_any_order(value: str) -> None:
    assert values_of(f"1\t{encoded(value)}\n".encode(), (1,)) == (value,)
