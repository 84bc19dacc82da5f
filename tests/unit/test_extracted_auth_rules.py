"""Rules of the auth service: passwords, addresses, tokens, keys; and what both services make of a token."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path

import pytest
from django.contrib.auth import hashers
from hypothesis import given, settings
from hypothesis import strategies as st

from extracted.auth import fields, passwords, tokens
from extracted.auth.hashing import HashingBusy, HashingPool
from extracted.auth.keyring import BadSigningKey, KeyRing, load_signing_key
from extracted.auth.make_signing_key import BadKeyRequest, make_signing_key
from extracted.auth.problem import KINDS, Code, Problem
from extracted.payments import keyring as payments_keyring
from extracted.payments import tokens as payments_tokens
from tests.parity.shop import PROBLEMS

NOW = 1_800_000_000


def encoded_by_django(name: str, password: str) -> str:
    match name:
        case "pbkdf2_sha256":
            return hashers.PBKDF2PasswordHasher().encode(password, "saltsaltsalt", iterations=7)
        case "pbkdf2_sha1":
            return hashers.PBKDF2SHA1PasswordHasher().encode(password, "saltsaltsalt", iterations=7)
        case "scrypt":
            return hashers.ScryptPasswordHasher().encode(password, "saltsaltsalt", n=2**4)
        case _:
            return hashers.Argon2PasswordHasher().encode(password, "saltsaltsalt")


@pytest.mark.parametrize("name", ["pbkdf2_sha256", "pbkdf2_sha1", "scrypt", "argon2"])
def test_what_django_encoded_verifies_here(name: str) -> None:
    encoded = encoded_by_django(name, "correct hörse")
    assert passwords.verify("correct hörse", encoded, iterations=1)
    assert not passwords.verify("correct horse", encoded, iterations=1)


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_what_is_encoded_here_verifies_with_django(password: str) -> None:
    encoded = passwords.encode(password, iterations=3)
    assert len(encoded) <= 128
    assert hashers.PBKDF2PasswordHasher().verify(password, encoded)
    assert passwords.verify(password, encoded, iterations=1)


@pytest.mark.parametrize(
    "stored", ["", "!", "!abc", "md5$salt$x", "pbkdf2_sha256$x$y", "argon2$nothing", "scrypt$$$$$"]
)
def test_a_password_that_cannot_be_read_is_wrong_and_never_an_error(stored: str) -> None:
    assert not passwords.verify("x", stored, iterations=1)


@given(st.emails())
def test_an_address_is_normalised_once(email: str) -> None:
    once = fields.normalise_email(f" {email.upper()} ")
    assert fields.normalise_email(once) == once


def test_every_problem_is_the_page_s_word_for_word() -> None:
    for code, kind in KINDS.items():
        if code.value in PROBLEMS and code is not Code.METHOD_NOT_ALLOWED:
            assert (kind.status, kind.title, kind.detail) == PROBLEMS[code.value]


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(Problem) as met:
        fields.parse_registration({"email": "x", "password": "123", "name": 5})
    assert met.value.document()["errors"] == {
        "email": ["Enter a valid email address."],
        "password": [fields.PASSWORD_TOO_SHORT, fields.PASSWORD_NUMERIC],
        "name": ["Must be a string."],
    }


def test_a_token_of_this_side_is_taken_by_both_services(tmp_path: Path) -> None:
    private, _ = make_signing_key("auth-1", tmp_path)
    key = load_signing_key(private)
    token = tokens.mint(7, key=key, now_s=NOW, token_id=uuid.UUID(int=5))
    here = tokens.judge(token, find_key=KeyRing(tmp_path).find, now_s=NOW)
    there = payments_tokens.judge(token, find_key=payments_keyring.KeyRing(tmp_path).find, now_s=NOW)
    assert (here.user_id, here.issuer, here.token_id, here.scopes) == (7, "auth", f"{5:032x}", frozenset())
    assert (there.user_id, there.issuer, there.scopes) == (7, "auth", frozenset())
    for now_s in (NOW - 11, NOW + 910):
        with pytest.raises(tokens.InvalidToken):
            tokens.judge(token, find_key=KeyRing(tmp_path).find, now_s=now_s)
    tokens.judge(token, find_key=KeyRing(tmp_path).find, now_s=NOW + 909)


@given(st.text(max_size=80))
def test_text_that_is_no_token_is_refused_and_never_an_error(text: str) -> None:
    for judge, refusal in (
        (tokens.judge, tokens.InvalidToken),
        (payments_tokens.judge, payments_tokens.InvalidToken),
    ):
        with pytest.raises(refusal):
            judge(text, find_key=lambda _: None, now_s=NOW)


def test_unknown_key_ids_do_not_make_us_read_the_folder_again_and_again(tmp_path: Path) -> None:
    now = 100.0
    ring = payments_keyring.KeyRing(tmp_path, clock=lambda: now)
    make_signing_key("late-1", tmp_path)
    assert ring.find("late-1") is None, "looked a moment ago"
    now += payments_keyring.MISS_INTERVAL_S
    assert ring.find("late-1") is not None
    (tmp_path / "bad.pub.pem").write_text("not a key")
    (tmp_path / "late-1.pub.pem").unlink()
    now += payments_keyring.RELOAD_INTERVAL_S
    assert ring.find("late-1") is None
    assert ring.find("bad") is None


def test_making_a_key_pair_twice_keeps_the_first(tmp_path: Path) -> None:
    private, public = make_signing_key("a-1", tmp_path)
    before = private.read_bytes(), public.read_bytes()
    public.unlink()
    make_signing_key("a-1", tmp_path)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert private.stat().st_mode & 0o777 == 0o600
    for kid in ("", "a.b", "../x", "x" * 65):
        with pytest.raises(BadKeyRequest):
            make_signing_key(kid, tmp_path)
    private.write_text("nonsense")
    with pytest.raises(BadSigningKey):
        load_signing_key(private)


async def test_more_hashes_than_places_are_refused_at_once() -> None:
    pool = HashingPool(threads=1, waiting=1, iterations=1)
    gate = threading.Event()
    work = [asyncio.ensure_future(pool._run(lambda: gate.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(HashingBusy):
        await pool.encode("x")
    gate.set()
    assert await asyncio.gather(*work) == [True, True]
    assert await pool.verify("x", await pool.encode("x"))
    assert not await pool.verify("x", None)
    pool.close()
