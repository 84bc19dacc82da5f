"""What people do at `/api/auth/`, with every error of the page."""

from __future__ import annotations

import base64
import json

from tests.parity.shop import PASSWORD, Case, Shop, expect, expect_problem

REQUIRED = ["This field is required."]
NOT_TEXT = ["Must be a string."]
BAD_EMAIL = ["Enter a valid email address."]
TOO_SHORT = "This password is too short. It must contain at least 10 characters."
NUMERIC = "This password is entirely numeric."

PATHS = {
    "/api/auth/register": "POST",
    "/api/auth/token": "POST",
    "/api/auth/token/refresh": "POST",
    "/api/auth/sign-out": "POST",
    "/api/auth/me": "GET, HEAD, PATCH",
    "/api/auth/password": "POST",
}


def registration(shop: Shop) -> None:
    email = shop.email("Ada")
    answer = shop.send(
        "POST", "/api/auth/register", {"email": f"  {email} ", "password": PASSWORD, "name": " Ada L. ", "age": 3}
    )
    user = expect(answer, 201)["user"]
    assert answer.headers["location"] == "/api/auth/me"
    assert (user["email"], user["name"]) == (email.lower(), "Ada L.")
    assert set(user) == {"id", "email", "name", "created_at"}
    again = {"email": email.upper(), "password": PASSWORD, "name": "Other"}
    expect_problem(shop.send("POST", "/api/auth/register", again), "email_taken")


def registration_errors(shop: Shop) -> None:
    def check(errors: dict[str, list[str]], **fields: object) -> None:
        document = {"email": shop.email(), "password": PASSWORD, "name": "Ada", **fields}
        expect_problem(shop.send("POST", "/api/auth/register", document), "invalid", errors=errors)

    everything = {"email": REQUIRED, "password": REQUIRED, "name": REQUIRED}
    expect_problem(shop.send("POST", "/api/auth/register", {}), "invalid", errors=everything)
    check(everything, email=None, password="", name="")
    check({"email": NOT_TEXT, "password": NOT_TEXT, "name": NOT_TEXT}, email=7, password=["x"], name={"a": 1})
    check({"email": REQUIRED, "name": REQUIRED}, email="  ", name="   ")
    check({"name": NOT_TEXT, "password": NOT_TEXT}, name="A\x00da", password="\ud800 correct horse")
    check({"name": ["Must have at most 150 characters."]}, name="x" * 151)
    check({"password": [TOO_SHORT]}, password="short")
    check({"password": [TOO_SHORT, NUMERIC]}, password="123")
    check({"password": [NUMERIC]}, password="12345678901")
    for email in ("ada", "ada@localhost", "a b@example.com", "@example.com", "a@b@example.com", "a@exa_mple.com"):
        check({"email": BAD_EMAIL}, email=email)
    check({"email": BAD_EMAIL}, email="x" * 65 + "@example.com")
    check({"email": BAD_EMAIL}, email="x@" + "d" * 250 + ".com")


def registration_limits(shop: Shop) -> None:
    document = {"email": "x" * 64 + "@registration-limits.com", "password": "ten chars!", "name": "x" * 150}
    expect(shop.send("POST", "/api/auth/register", document), 201)


def bodies(shop: Shop) -> None:
    for path in ("/api/auth/register", "/api/auth/token", "/api/auth/token/refresh", "/api/auth/sign-out"):
        for content in (b"", b"{", b"[1]", b'"x"', b"null", b'{"a": NaN}', b"\xff", b"\xef\xbb\xbf{}"):
            expect_problem(shop.send("POST", path, content=content), "malformed_body")
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/problem+json", ""):
            sent = shop.send("POST", path, content=b"{}", headers={"Content-Type": content_type})
            expect_problem(sent, "unsupported_media_type")
    typed = {"Content-Type": "Application/JSON; charset=utf-8"}
    expect_problem(
        shop.send("POST", "/api/auth/sign-out", content=b"{}", headers=typed), "invalid",
        errors={"refresh_token": REQUIRED},
    )  # fmt: skip


def sign_in(shop: Shop) -> None:
    user = shop.user()
    answer = shop.send("POST", "/api/auth/token", {"email": f" {user.email.upper()}", "password": PASSWORD})
    session = expect(answer, 200)
    assert (session["token_type"], session["expires_in"], session["user"]["id"]) == ("Bearer", 900, user.id)
    header, claims, _ = (json.loads(_decoded(part)) for part in [*session["access_token"].split(".")[:2], "e30"])
    assert header["alg"] == "EdDSA"
    assert header["kid"].split("-")[0] == claims["iss"]
    assert (claims["aud"], claims["sub"], claims["exp"] - claims["iat"]) == ("shop", str(user.id), 900)
    assert "scope" not in claims
    assert len(base64.urlsafe_b64decode(session["refresh_token"] + "=")) == 32
    me = expect(shop.send("GET", "/api/auth/me", token=session["access_token"]), 200)
    assert me["user"] == session["user"]


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def sign_in_errors(shop: Shop) -> None:
    user = shop.user()
    expect_problem(
        shop.send("POST", "/api/auth/token", {}), "invalid", errors={"email": REQUIRED, "password": REQUIRED}
    )
    expect_problem(
        shop.send("POST", "/api/auth/token", {"email": 1, "password": 2}), "invalid",
        errors={"email": NOT_TEXT, "password": NOT_TEXT},
    )  # fmt: skip
    for email, password in ((user.email, "wrong"), (shop.email("nobody"), PASSWORD), ("not an address", "x")):
        answer = shop.send("POST", "/api/auth/token", {"email": email, "password": password})
        expect_problem(answer, "invalid_credentials")
        assert "www-authenticate" not in answer.headers


def too_many_attempts(shop: Shop) -> None:
    user = shop.user()

    def attempt(password: str) -> int:
        answer = shop.send("POST", "/api/auth/token", {"email": user.email, "password": password})
        if answer.status_code == 429:
            expect_problem(answer, "too_many_attempts")
            assert 1 <= int(answer.headers["retry-after"]) <= 300
        return answer.status_code

    assert [attempt("wrong") for _ in range(4)] == [401] * 4
    assert attempt(PASSWORD) == 200, "a success clears the failures"
    assert [attempt("wrong") for _ in range(6)] == [401] * 5 + [429]
    assert attempt(PASSWORD) == 429
    other = shop.user()
    expect(shop.send("POST", "/api/auth/token", {"email": other.email, "password": PASSWORD}), 200)


def refresh_and_sign_out(shop: Shop) -> None:
    user = shop.user()
    session = expect(shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD}), 200)
    body = {"refresh_token": session["refresh_token"]}
    fresh = expect(shop.send("POST", "/api/auth/token/refresh", body), 200)
    assert set(fresh) == {"access_token", "token_type", "expires_in"}
    expect(shop.send("GET", "/api/auth/me", token=fresh["access_token"]), 200)
    for _ in range(2):
        assert expect(shop.send("POST", "/api/auth/sign-out", body), 204) is None
        expect_problem(shop.send("POST", "/api/auth/token/refresh", body), "invalid_refresh_token")
    assert expect(shop.send("POST", "/api/auth/sign-out", {"refresh_token": "unknown"}), 204) is None
    expect_problem(shop.send("POST", "/api/auth/token/refresh", {"refresh_token": "é"}), "invalid_refresh_token")
    for value, texts in ((None, REQUIRED), ("", REQUIRED), (5, NOT_TEXT)):
        for path in ("/api/auth/token/refresh", "/api/auth/sign-out"):
            answer = shop.send("POST", path, {"refresh_token": value})
            expect_problem(answer, "invalid", errors={"refresh_token": texts})


def access_tokens(shop: Shop) -> None:
    user = shop.user()
    mint = shop.side.keys.mint
    good = {
        "of the monolith": mint(user.id),
        "of auth": mint(user.id, kid="auth-1"),
        "with scopes": mint(user.id, "orders", "settlement"),
        "within the leeway": mint(user.id, age_s=905),
        "of a fast clock": mint(user.id, age_s=-5),
    }
    bad = bad_tokens(shop, user.id)
    for path in ("/api/auth/me", "/api/payments/intents"):
        for token in good.values():
            expect(shop.send("GET", path, token=token), 200)
        for token in bad.values():
            expect_problem(shop.send("GET", path, token=token), "invalid_token")
        expect_problem(shop.send("GET", path), "not_authenticated")
        for value in ("Basic YTpi", "Bearer", ""):
            answer = shop.send("GET", path, headers={"Authorization": value}, keep=value != "Bearer")
            expect_problem(answer, "not_authenticated" if value != "Bearer" else answer.json()["code"])
        scheme = {"Authorization": f"bearer {good['of auth']}"}
        expect(shop.send("GET", path, headers=scheme), 200)
    expect_problem(shop.send("GET", "/api/auth/me", token=mint(2**40)), "invalid_token")


def bad_tokens(shop: Shop, user_id: int) -> dict[str, str]:
    """Tokens that no side may take, by what is wrong with them."""
    keys = shop.side.keys
    mint = keys.mint
    text = mint(user_id)
    header, claims, signature = text.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"monolith-1"}').rstrip(b"=").decode()
    hs256 = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"monolith-1"}').rstrip(b"=").decode()
    return {
        "expired": mint(user_id, age_s=920),
        "of the future": mint(user_id, age_s=-60),
        "of an unknown key": mint(user_id, kid="nobody-1", signed_by=keys.private("auth-1"), iss="auth"),
        "of another's key": mint(user_id, kid="auth-1", signed_by=keys.private("monolith-1")),
        "for another audience": mint(user_id, aud="other"),
        "of another issuer": mint(user_id, iss="somebody"),
        "without expiry": mint(user_id, exp=None),
        "without id": mint(user_id, jti=None),
        "for nobody": mint("ada"),
        "for zero": mint(0),
        "for a number too large": mint(2**63),
        "with a number as scope": mint(user_id, scope=5),
        "unsigned": f"{none}.{claims}.",
        "with another algorithm": f"{hs256}.{claims}.{signature}",
        "changed": f"{header}.{claims[:-2]}AA.{signature}",
        "cut": text[:-10],
        "no token": "abc",
        "with spaces": f"{text} x",
    }


def profile(shop: Shop) -> None:
    user = shop.user(name="Ada")
    answer = shop.send("PATCH", "/api/auth/me", {"name": "  Ada Lovelace ", "email": "ignored"}, token=user.token)
    changed = expect(answer, 200)["user"]
    assert (changed["name"], changed["email"]) == ("Ada Lovelace", user.email)
    assert expect(shop.send("GET", "/api/auth/me", token=user.token), 200)["user"] == changed
    for value, texts in (
        (None, REQUIRED),
        (" ", REQUIRED),
        (5, NOT_TEXT),
        ("x" * 151, ["Must have at most 150 characters."]),
    ):
        answer = shop.send("PATCH", "/api/auth/me", {"name": value}, token=user.token)
        expect_problem(answer, "invalid", errors={"name": texts})
    expect_problem(shop.send("PATCH", "/api/auth/me", content=b"[]", token=user.token), "malformed_body")
    expect_problem(shop.send("PATCH", "/api/auth/me", {"name": "X"}), "not_authenticated")
    expect_problem(shop.send("PATCH", "/api/auth/me", content=b"[]"), "not_authenticated")


def password_change(shop: Shop) -> None:
    user = shop.user()
    session = expect(shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD}), 200)

    def change(current: object, new: object) -> object:
        document = {"current_password": current, "new_password": new}
        return shop.send("POST", "/api/auth/password", document, token=user.token)

    expect_problem(change("wrong", "another long one"), "invalid_credentials")
    expect_problem(
        change(None, "123"), "invalid", errors={"current_password": REQUIRED, "new_password": [TOO_SHORT, NUMERIC]}
    )
    expect_problem(change(1, 2), "invalid", errors={"current_password": NOT_TEXT, "new_password": NOT_TEXT})
    expect(shop.send("POST", "/api/auth/token/refresh", {"refresh_token": session["refresh_token"]}), 200)
    assert expect(change(PASSWORD, "another long one"), 204) is None
    refused = shop.send("POST", "/api/auth/token/refresh", {"refresh_token": session["refresh_token"]})
    expect_problem(refused, "invalid_refresh_token")
    expect_problem(
        shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD}), "invalid_credentials"
    )
    expect(shop.send("POST", "/api/auth/token", {"email": user.email, "password": "another long one"}), 200)
    expect(shop.send("GET", "/api/auth/me", token=user.token), 200)
    expect_problem(shop.send("POST", "/api/auth/password", {}), "not_authenticated")


def methods_and_paths(shop: Shop) -> None:
    for path, allow in PATHS.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(allow.split(", ")):
            answer = shop.send(method, path, keep=False)
            expect_problem(answer, "method_not_allowed", detail=f"This path does not take {method}.")
            assert answer.headers["allow"] == allow
        expect_problem(shop.send("DELETE", path), "method_not_allowed", detail="This path does not take DELETE.")
    user = shop.user()
    head = shop.send("HEAD", "/api/auth/me", token=user.token)
    assert (head.status_code, head.content) == (200, b"")
    for path in ("/api/auth/", "/api/auth/nothing", "/api/auth/me/", "/api/auth/token/", "/api/auth/me/7"):
        for method in ("GET", "POST"):
            expect_problem(shop.send(method, path), "not_found")


CASES: tuple[Case, ...] = (
    registration,
    registration_errors,
    registration_limits,
    bodies,
    sign_in,
    sign_in_errors,
    too_many_attempts,
    refresh_and_sign_out,
    access_tokens,
    profile,
    password_change,
    methods_and_paths,
)
