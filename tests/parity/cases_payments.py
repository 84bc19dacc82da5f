"""Intents, keys, lists, ownership of rows, settlements: what does not depend on the card processor's mood."""

from __future__ import annotations

import base64
import uuid

import httpx

from tests.parity.cases_auth import bad_tokens
from tests.parity.shop import Case, Shop, User, expect, expect_problem

REQUIRED = ["This field is required."]
NOT_TEXT = ["Must be a string."]
BAD_AMOUNT = ["Enter an amount with at most two decimals, from 0.01 to 999999.99."]
BAD_CURRENCY = ["Must be one of EUR, GBP, USD."]
BAD_ORDER = ["Must be a positive integer."]
BAD_DATE = ["Enter a date as YYYY-MM-DD."]
BAD_LIMIT = ["Must be from 1 to 100."]
BAD_CURSOR = ["Not a valid cursor."]
INTENTS = "/api/payments/intents"
SETTLEMENTS = "/api/payments/settlements"
NEW = {"amount": "12.50", "currency": "EUR", "card_token": "tok_visa"}


def create(shop: Shop, user: User, key: str | None, **fields: object) -> httpx.Response:
    return shop.send("POST", INTENTS, {**NEW, **fields}, token=user.token, key=key)


def making_intents(shop: Shop) -> None:
    user = shop.user()
    answer = create(shop, user, "k1", amount="7", currency="GBP", description="Étude ☕", order_id=None, more=1)
    intent = expect(answer, 201)
    assert answer.headers["location"] == f"{INTENTS}/{intent['id']}"
    assert {**intent, "id": "", "created_at": ""} == {
        "id": "",
        "order_id": None,
        "amount": "7.00",
        "currency": "GBP",
        "status": "created",
        "captured_amount": "0.00",
        "refunded_amount": "0.00",
        "description": "Étude ☕",
        "created_at": "",
        "refunds": [],
    }
    assert expect(shop.send("GET", f"{INTENTS}/{intent['id']}", token=user.token), 200) == intent
    for number, (sent, told) in enumerate(
        (("0.01", "0.01"), ("0.1", "0.10"), ("000001", "1.00"), ("999999.99", "999999.99"))
    ):
        assert expect(create(shop, user, f"amount-{number}", amount=sent), 201)["amount"] == told
    limits = {"card_token": "t" * 64, "description": "d" * 200, "currency": "USD"}
    assert expect(create(shop, user, "limits", **limits), 201)["description"] == "d" * 200
    assert expect(create(shop, user, "no-description", description=None), 201)["description"] == ""


def intent_errors(shop: Shop) -> None:
    user = shop.user()

    def check(errors: dict[str, list[str]], **fields: object) -> None:
        expect_problem(create(shop, user, "errors", **fields), "invalid", errors=errors)

    three = {"amount": REQUIRED, "currency": REQUIRED, "card_token": REQUIRED}
    expect_problem(shop.send("POST", INTENTS, {}, token=user.token, key="errors"), "invalid", errors=three)
    check(three, amount=None, currency="", card_token="")
    for amount in ("0", "0.00", "1000000", "1.005", "1e3", "-1", "+1", " 1", "1,5", ".5", "5.", "١", "NaN"):
        check({"amount": BAD_AMOUNT}, amount=amount)
    for amount in (5, 12.5, True, ["1.00"]):
        check({"amount": BAD_AMOUNT}, amount=amount)
    check({"currency": BAD_CURRENCY}, currency="eur")
    check(
        {"currency": NOT_TEXT, "card_token": NOT_TEXT, "description": NOT_TEXT}, currency=1, card_token=2, description=3
    )
    check({"card_token": ["Must have at most 64 characters."]}, card_token="t" * 65)
    check({"description": ["Must have at most 200 characters."]}, description="d" * 201)
    for order in (0, -1, "17", 1.0, True, 2**63):
        check({"order_id": BAD_ORDER}, order_id=order)
    for content in (b"", b"[]", b"{", b"nul"):
        answer = shop.send("POST", INTENTS, content=content, token=user.token, key="errors")
        expect_problem(answer, "malformed_body")
    typed = {"Content-Type": "text/plain"}
    answer = shop.send("POST", INTENTS, content=b"{}", headers=typed, token=user.token, key="errors")
    expect_problem(answer, "unsupported_media_type")
    expect(create(shop, user, "errors"), 201)


def orders_need_their_scope(shop: Shop) -> None:
    user = shop.user()
    expect_problem(create(shop, user, "k", order_id=1), "forbidden")
    expect_problem(create(shop, user, "k", order_id=1, amount=""), "invalid", errors={"amount": REQUIRED})
    other = User(id=user.id, email=user.email, token=shop.side.keys.mint(user.id, "settlement"))
    expect_problem(create(shop, other, "k", order_id=1), "forbidden")
    expect(create(shop, user, "k"), 201)


def keys(shop: Shop) -> None:
    user, other = shop.user(), shop.user()
    for key in (None, "", "x" * 256, "é", "a\tb"):
        headers = {} if key is None else {"Idempotency-Key": key.encode("utf-8")}
        answer = shop.client.post(
            shop.side.url(INTENTS), json=NEW, headers={"Authorization": f"Bearer {user.token}", **headers}
        )
        shop.keep(f"key {key!r}", answer)
        expect_problem(answer, "idempotency_key_missing")
    longest = "~!@ " * 63 + "abc"
    first = create(shop, user, longest)
    again = create(shop, user, longest)
    assert (expect(first, 201), first.content) == (expect(again, 201), again.content)
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    expect_problem(create(shop, user, longest, amount="12.51"), "idempotency_key_reused")
    spaced = shop.send("POST", INTENTS, content=b' {"amount": "1"}', token=user.token, key=longest)
    expect_problem(spaced, "idempotency_key_reused")
    intent_id = first.json()["id"]
    expect_problem(shop.capture(user, intent_id, longest), "idempotency_key_reused")
    expect_problem(shop.refund(user, intent_id, "1.00", longest), "idempotency_key_reused")
    theirs = create(shop, other, longest)
    assert expect(theirs, 201)["id"] != intent_id
    assert "idempotent-replay" not in theirs.headers
    listed = expect(shop.send("GET", INTENTS, token=user.token), 200)["results"]
    assert [intent["id"] for intent in listed] == [intent_id], "a replay makes nothing"


def order_of_checks(shop: Shop) -> None:
    user = shop.user()
    unknown = f"{INTENTS}/{uuid.uuid4()}/capture"
    expect_problem(shop.send("POST", unknown, content=b"["), "not_authenticated")
    expect_problem(shop.send("POST", unknown, content=b"[", token=user.token), "not_found")
    mine = f"{INTENTS}/{shop.intent(user)}"
    for path in (f"{mine}/capture", f"{mine}/refunds", INTENTS):
        answer = shop.send("POST", path, content=b"[", token=user.token)
        expect_problem(answer, "idempotency_key_missing")
        expect_problem(shop.send("POST", path, content=b"[", token=user.token, key="k"), "malformed_body")
    expect_problem(shop.send("DELETE", INTENTS), "method_not_allowed", detail="This path does not take DELETE.")


def nobody_reads_what_is_anothers(shop: Shop) -> None:
    ada, bob = shop.user(), shop.user()
    intent_id = shop.captured(ada)
    for name in (intent_id, str(uuid.uuid4()), "7", intent_id.upper(), intent_id.replace("-", ""), f"{{{intent_id}}}"):
        user = bob if name == intent_id else ada
        expect_problem(shop.send("GET", f"{INTENTS}/{name}", token=user.token), "not_found")
        expect_problem(shop.capture(user, name, "k"), "not_found")
        expect_problem(shop.refund(user, name, "1.00", "k"), "not_found")
    assert expect(shop.send("GET", INTENTS, token=bob.token), 200) == {"results": [], "next": None}
    assert len(expect(shop.send("GET", INTENTS, token=ada.token), 200)["results"]) == 1


def lists_page_by_page(shop: Shop) -> None:
    user = shop.user()
    made = [shop.intent(user, f"{number}.00") for number in range(1, 6)]
    made.reverse()
    seen, path = [], f"{INTENTS}?limit=2"
    for expected in (2, 2, 1):
        page = expect(shop.send("GET", path, token=user.token, keep=expected == 2), 200)
        assert len(page["results"]) == expected
        seen += [intent["id"] for intent in page["results"]]
        last = page["results"][-1]
        if expected == 2:
            text = f"{last['created_at']}|{last['id']}"
            assert page["next"] == base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        path = f"{INTENTS}?limit=2&after={page['next']}"
    assert seen == made
    assert page["next"] is None
    for limit in (5, 100):
        whole = expect(shop.send("GET", f"{INTENTS}?limit={limit}", token=user.token), 200)
        assert ([intent["id"] for intent in whole["results"]], whole["next"]) == (made, None)


def list_errors(shop: Shop) -> None:
    user = shop.user()
    for limit in ("0", "101", "-1", "1.5", "x", "", "1000", "%201"):
        answer = shop.send("GET", f"{INTENTS}?limit={limit}", token=user.token)
        expect_problem(answer, "invalid", errors={"limit": BAD_LIMIT})

    def cursor(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    time, intent_id = "2026-11-22T12:00:00.000000Z", str(uuid.uuid4())
    bad = ("", "x", "!!!!", cursor("nonsense"), cursor(f"{time}|7"), cursor(f"2026-13-22T12:00:00.000000Z|{intent_id}"))
    for after in (*bad, cursor(f"{time}|{intent_id}") + "=", cursor(f"2026-11-22|{intent_id}")):
        answer = shop.send("GET", f"{INTENTS}?after={after}", token=user.token)
        expect_problem(answer, "invalid", errors={"after": BAD_CURSOR})
    answer = shop.send("GET", f"{INTENTS}?after=x&limit=0", token=user.token)
    expect_problem(answer, "invalid", errors={"limit": BAD_LIMIT, "after": BAD_CURSOR})
    good = shop.send("GET", f"{INTENTS}?after={cursor(f'{time}|{intent_id}')}&unknown=1", token=user.token)
    expect(good, 200)


def tokens(shop: Shop) -> None:
    user = shop.user()
    for token in bad_tokens(shop, user.id).values():
        expect_problem(shop.send("POST", INTENTS, NEW, token=token, key="k"), "invalid_token")
    expect_problem(shop.send("POST", INTENTS, NEW, key="k"), "not_authenticated")
    expect_problem(shop.send("POST", SETTLEMENTS, {"date": "2026-01-01"}), "not_authenticated")
    expect(shop.send("POST", INTENTS, NEW, token=shop.side.keys.mint(user.id, kid="auth-1"), key="k"), 201)


def settlements(shop: Shop) -> None:
    user = shop.user()
    token = shop.side.keys.mint(user.id, "settlement")
    day = "2020-02-29"
    for amount in ("10.00", "2.50"):
        shop.date_intent(shop.captured(user, amount), day)
    refunded = shop.captured(user, "4.00")
    expect(shop.refund(user, refunded, "1.25", "r"), 201)
    shop.date_intent(refunded, day)
    shop.date_intent(shop.intent(user, "99.00"), day)  # never captured
    shop.date_intent(shop.captured(user, "50.00"), "2020-03-01")
    pounds = shop.intent(user, "3.00", currency="GBP")
    expect(shop.capture(user, pounds, "pounds"), 200)
    shop.date_intent(pounds, day)
    euros = {"currency": "EUR", "captured_total": "16.50", "refunded_total": "1.25", "payments": 3}
    pound = {"currency": "GBP", "captured_total": "3.00", "refunded_total": "0.00", "payments": 1}
    for _ in range(2):
        answer = shop.send("POST", SETTLEMENTS, {"date": day}, token=token)
        assert expect(answer, 200) == {"date": day, "settlements": [euros, pound]}
    expect(shop.refund(user, refunded, "1.00", "later"), 201)
    dollars = shop.intent(user, "8.00", currency="USD")
    expect(shop.capture(user, dollars, "dollars"), 200)
    shop.date_intent(dollars, day)
    dollar = {"currency": "USD", "captured_total": "8.00", "refunded_total": "0.00", "payments": 1}
    answer = shop.send("POST", SETTLEMENTS, {"date": day}, token=token)
    assert expect(answer, 200)["settlements"] == [euros, pound, dollar], "what is settled stays"
    answer = shop.send("POST", SETTLEMENTS, {"date": "1999-12-31"}, token=token)
    assert expect(answer, 200) == {"date": "1999-12-31", "settlements": []}


def settlement_errors(shop: Shop) -> None:
    user = shop.user()
    token = shop.side.keys.mint(user.id, "settlement")
    bad = ("2026-02-30", "2026-1-1", "20260101", "2026-01-01T00:00:00Z", "today", "0000-01-01", "२०२६-०१-०१")
    for value, texts in (*((text, BAD_DATE) for text in bad), (None, REQUIRED), ("", REQUIRED), (20260101, NOT_TEXT)):
        answer = shop.send("POST", SETTLEMENTS, {"date": value}, token=token)
        expect_problem(answer, "invalid", errors={"date": texts})
    for scopes in ((), ("orders",)):
        weaker = shop.side.keys.mint(user.id, *scopes)
        expect_problem(shop.send("POST", SETTLEMENTS, {"date": "2020-01-01"}, token=weaker), "forbidden")
        answer = shop.send("POST", SETTLEMENTS, {"date": "x"}, token=weaker)
        expect_problem(answer, "invalid", errors={"date": BAD_DATE})
    expect_problem(shop.send("POST", SETTLEMENTS, content=b"", token=token), "malformed_body")


def methods_and_paths_of_payments(shop: Shop) -> None:
    user = shop.user()
    mine = f"{INTENTS}/{shop.intent(user)}"
    paths = {
        INTENTS: "GET, HEAD, POST",
        mine: "GET, HEAD",
        f"{mine}/capture": "POST",
        f"{mine}/refunds": "POST",
        SETTLEMENTS: "POST",
        "/api/payments/webhooks/card-processor": "POST",
    }
    for path, allow in paths.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(allow.split(", ")):
            answer = shop.send(method, path, token=user.token, keep=False)
            expect_problem(answer, "method_not_allowed", detail=f"This path does not take {method}.")
            assert answer.headers["allow"] == allow
        expect_problem(shop.send("PUT", path), "method_not_allowed", detail="This path does not take PUT.")
    head = shop.send("HEAD", INTENTS, token=user.token)
    assert (head.status_code, head.content) == (200, b"")
    for path in (
        "/api/payments/",
        f"{INTENTS}/",
        f"{mine}/",
        f"{mine}/void",
        f"{mine}/capture/",
        "/api/payments/webhooks",
    ):
        for method in ("GET", "POST"):
            expect_problem(shop.send(method, path, token=user.token), "not_found")


CASES: tuple[Case, ...] = (
    making_intents,
    intent_errors,
    orders_need_their_scope,
    keys,
    order_of_checks,
    nobody_reads_what_is_anothers,
    lists_page_by_page,
    list_errors,
    tokens,
    settlements,
    settlement_errors,
    methods_and_paths_of_payments,
)
