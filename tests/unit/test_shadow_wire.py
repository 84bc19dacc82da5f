"""What shadow mode says on the wire cannot be forged, replayed, swapped or blown up."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core import shadow_wire as wire
from strangler_proxy.core.shadow_wire import SeenIds, ShadowKeys, ShadowRole
from strangler_proxy.core.signing import Signer

SECRET = b"0123456789abcdef"
NOW = 1_764_200_000
keys = ShadowKeys(SECRET)
ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
flags = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", fullmatch=True))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
effect_lists = st.lists(
    st.fixed_dictionaries({"kind": st.sampled_from(["row", "mail", "task", "message", "call", "cache"]),
                           "detail": json_values}),
    max_size=6,
)  # fmt: skip


def mark(**changed: Any) -> str:
    given = {"role": "mirror", "id": "0f" * 16, "at": NOW, "flag": "payments", "body_sha256": wire.digest_of(b"body")}
    return wire.request_value(keys, **{**given, **changed})


@given(st.sampled_from(ShadowRole), ids, st.integers(-60, 60), flags, st.binary(max_size=40), effect_lists)
def test_a_mark_says_what_was_marked(
    role: ShadowRole, id_: str, skew_s: int, flag: str, body: bytes, effects: list[dict[str, Any]]
) -> None:
    recorded = wire.encode_effects(effects)
    value = wire.request_value(
        keys, role=role, id=id_, at=NOW + skew_s, flag=flag, body_sha256=wire.digest_of(body), recorded=recorded
    )
    request = wire.read_request(keys, value, now=NOW)
    assert request is not None
    assert (request.role, request.id, request.at, request.flag) == (role, id_, NOW + skew_s, flag)
    assert request.fits_body(body)
    assert not request.fits_body(body + b"x")
    assert request.fits_recorded(recorded)
    assert request.fits_recorded([", ".join(recorded)])
    assert not request.fits_recorded([])
    assert not request.fits_recorded([*recorded, "1/1; AAAA"])


def test_a_mark_without_body_or_recorded_effects_takes_any_body_but_no_effects() -> None:
    request = wire.read_request(keys, mark(body_sha256="", flag=""), now=NOW)
    assert request is not None
    assert request.flag == ""
    assert request.fits_body(b"any")
    assert request.fits_recorded([])
    assert not request.fits_recorded(["1/1; AAAA"])


@given(st.integers(0, 400), st.characters(codec="utf-8"))
def test_one_changed_character_is_noticed(at: int, other: str) -> None:
    value = mark()
    place = at % len(value)
    if value[place] != other:
        assert wire.read_request(keys, value[:place] + other + value[place + 1 :], now=NOW) is None


@given(st.text(max_size=300))
def test_nonsense_is_never_a_mark(text: str) -> None:
    assert wire.read_request(keys, text, now=NOW) is None
    assert wire.read_request(keys, text + "; sig=" + keys.sign_request(text), now=NOW) is None


@pytest.mark.parametrize("skew_s", [-61, 61, -10_000, 10_000])
def test_a_mark_from_outside_the_window_is_none(skew_s: int) -> None:
    assert wire.read_request(keys, mark(at=NOW + skew_s), now=NOW) is None


def test_another_secret_and_another_purpose_are_worth_nothing() -> None:
    value = mark()
    assert wire.read_request(ShadowKeys(b"another secret 1"), value, now=NOW) is None
    text = value.rpartition("; sig=")[0]
    assert wire.read_request(keys, f"{text}; sig={keys.sign_proof(text)}", now=NOW) is None
    assert keys.sign_request(text) == Signer(SECRET).sign("shadow", text.encode())
    assert keys.sign_proof(text) == Signer(SECRET).sign("shadow-proof", text.encode())


@pytest.mark.parametrize(
    "changed",
    [{"id": "0F" * 16}, {"id": "0f"}, {"role": "own"}, {"flag": "a; role=record"}, {"body_sha256": "ff"}, {"at": -5}],
)
def test_what_no_reader_would_take_is_not_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        mark(**changed)


def test_a_short_secret_is_refused_and_never_shown() -> None:
    with pytest.raises(ValueError, match="16"):
        ShadowKeys(b"short")
    assert "0123" not in repr(keys)


@given(effect_lists)
def test_effects_come_back_in_any_order_of_fields_joined_or_not(effects: list[dict[str, Any]]) -> None:
    values = wire.encode_effects(effects)
    assert all(len(value) <= wire.PART_CHARS for value in values)
    assert len(values) <= wire.PARTS
    assert wire.decode_effects(reversed(values)) == effects
    assert wire.decode_effects([", ".join(values)]) == effects
    assert wire.effects_digest(values) == wire.effects_digest([",".join(values)])


@given(effect_lists, st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=3))
def test_what_is_to_be_undone_rides_along_and_is_no_effect(
    effects: list[dict[str, Any]], undo: list[dict[str, Any]]
) -> None:
    values = wire.encode_effects(effects, undo)
    assert wire.decode_effects(values) == json.loads(wire.effects_text(values)) == effects
    assert wire.decode_undo(values) == undo


@pytest.mark.parametrize("text", [b"[]\n{}", b"[]\n[1]", b"[]\n[{}]\n[]", b"[]\n" + b"[" * 100_000])
def test_what_is_no_list_of_things_to_undo_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.decode_undo([packed(text)])


def incompressible(size: int) -> list[dict[str, Any]]:
    return [{"kind": "mail", "detail": base64.b64encode(random.Random(7).randbytes(size)).decode()}]


def test_effects_of_several_fields_come_back_and_a_missing_field_is_noticed() -> None:
    values = wire.encode_effects(incompressible(12_000))
    assert 1 < len(values) <= wire.PARTS
    assert wire.decode_effects(values) == incompressible(12_000)
    for left_out in range(len(values)):
        with pytest.raises(ValueError, match="part"):
            wire.decode_effects(values[:left_out] + values[left_out + 1 :])
    with pytest.raises(ValueError, match="part"):
        wire.decode_effects([*values, values[0]])


@pytest.mark.parametrize("size", [30_000, 5_000_000])
def test_too_many_effects_are_said_to_be_too_large(size: int) -> None:
    values = wire.encode_effects(incompressible(size))
    assert values == ["too_large"]
    with pytest.raises(wire.EffectsTooLarge):
        wire.decode_effects(values)


def packed(text: bytes) -> str:
    return "1/1; " + base64.b64encode(zlib.compress(text, 9)).decode()


@pytest.mark.parametrize(
    "value",
    [
        "", "1/1; ", "1/1; !!!!", "0/1; AAAA", "2/1; AAAA", "1/9; AAAA", "1/1; AAAA", packed(b"not json"),
        packed(b"{}"), packed(b"[1]"), packed(b'[{"kind": 1}]'), packed(b'[{"kind": "a b"}]'),
        packed(b'[{"kind": "row", "more": 1}]'), packed(b"\xff"), packed(b"[" * 100_000),
        packed(b"[]")[:-8] + "====", "1/1; " + "A" * 7_000, packed(b"[" + b" " * 4_000_100 + b"]"),
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_effects_is_a_value_error(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.decode_effects([value])


@settings(max_examples=300)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_nonsense_never_raises_anything_else(values: list[str]) -> None:
    try:
        wire.decode_effects(values)
    except ValueError:
        pass
    assert not wire.proven(keys, id="0f" * 16, role="mirror", effects_values=values, proof="".join(values))


def test_bytes_behind_or_missing_at_the_end_are_noticed() -> None:
    whole = zlib.compress(json.dumps([{"kind": "row", "detail": None}]).encode())
    for changed in (whole + b"more", whole[:-3]):
        with pytest.raises(ValueError, match="cut off"):
            wire.decode_effects(["1/1; " + base64.b64encode(changed).decode()])


@pytest.mark.parametrize("detail", [float("nan"), float("inf"), object(), b"bytes"])
def test_a_detail_that_is_no_json_is_refused_where_it_is_made(detail: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.encode_effects([{"kind": "row", "detail": detail}])


@given(ids, st.sampled_from(ShadowRole), effect_lists)
def test_a_proof_is_for_one_request_one_role_and_these_effects(
    id_: str, role: ShadowRole, effects: list[dict[str, Any]]
) -> None:
    request = wire.read_request(keys, mark(id=id_, role=role), now=NOW)
    assert request is not None
    values = wire.encode_effects(effects)
    proof = wire.proof_value(keys, request, values)

    def proven(**changed: Any) -> bool:
        told: dict[str, Any] = {"id": id_, "role": role, "effects_values": values, "proof": proof}
        return wire.proven(keys, **{**told, **changed})

    assert proven()
    assert proven(effects_values=[", ".join(values)])
    assert not proven(role="mirror" if role == "record" else "record")
    assert not proven(id="e" * 32 if id_ != "e" * 32 else "0" * 32)
    assert not proven(effects_values=wire.encode_effects([*effects, {"kind": "row", "detail": 1}]))
    assert not proven(effects_values=[])
    assert not proven(proof="")
    assert not proven(proof=None)
    assert not proven(proof=proof[:-1] + ("0" if proof[-1] != "0" else "1"))
    assert not wire.proven(
        ShadowKeys(b"another secret 1"), id=id_, role=role, effects_values=values, proof=proof
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), max_size=300), st.integers(1, 50))
def test_no_id_is_ever_taken_twice_however_few_are_kept(seen: list[tuple[int, int]], kept: int) -> None:
    ids_seen = SeenIds(60, kept)
    taken: set[tuple[int, int]] = set()
    for number, second in seen:
        if ids_seen.first(f"{number:032x}", NOW + second):
            assert (number, second) not in taken
            taken.add((number, second))


def test_ids_within_the_window_are_taken_whatever_their_order_while_there_is_room() -> None:
    seen = SeenIds(60, 1_000)
    seconds = [*range(NOW, NOW + 120), *range(NOW, NOW + 120)]
    random.Random(3).shuffle(seconds)
    assert all(seen.first(f"{number:032x}", at) for number, at in enumerate(seconds))
    assert seen.first("e" * 32, NOW + 5_000)
    assert not seen.first("d" * 32, NOW), "long past: refused, it may have been seen"


def test_flags_as_the_fence_knows_them() -> None:
    assert wire.valid_flag("payments.card-2")
    assert not wire.valid_flag("-")
    assert not wire.valid_flag("a;b")
