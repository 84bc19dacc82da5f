"""Steady traffic of people who shop: a client's view, through the proxy, with every request written down.

Shoppers register, sign in, browse, order, pay, take money back and list their payments, through the JSON API and
through the monolith's own pages. Nothing is retried here: a request that a real client would see fail has failed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import httpx

PASSWORD = "correct horse battery"
CARD = "tok_visa"
TIMEOUT_S = 20.0


@dataclass(slots=True)
class Sheet:
    """What happened, for the account at the end. Latencies in seconds by name of request."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)
    captured: dict[str, str] = field(default_factory=dict)
    """Payment id -> amount, acknowledged to a client as captured."""
    refunded: dict[str, str] = field(default_factory=dict)
    """Refund id -> amount, acknowledged to a client."""
    paid_orders: set[int] = field(default_factory=set)
    registered: set[str] = field(default_factory=set)

    def fail(self, what: str) -> None:
        self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")


class Shopper:
    """One person with one connection pool. Every step returns nothing and writes to the sheet."""

    def __init__(self, base_url: str, sheet: Sheet, rng: random.Random, stop: asyncio.Event) -> None:
        self._sheet, self._rng, self._stop = sheet, rng, stop
        self._client = httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S, follow_redirects=False)
        self._token = ""
        self._refresh = ""

    async def live(self) -> None:
        """Shop until told to stop."""
        try:
            while not self._stop.is_set():
                await self._visit()
        finally:
            await self._client.aclose()

    async def _visit(self) -> None:
        await self._sign_up()
        for _ in range(self._rng.randint(2, 4)):
            if self._stop.is_set() or not self._token:
                return
            step = self._rng.choices(
                [self._browse, self._order_and_pay, self._pay_directly, self._account, self._pages],
                weights=[3, 3, 2, 2, 1],
            )[0]
            await step()
            await asyncio.sleep(self._rng.uniform(0.05, 0.25))

    async def call(
        self,
        name: str,
        method: str,
        path: str,
        expect: tuple[int, ...] = (200,),
        *,
        signed: bool = True,
        **kwargs: object,
    ) -> httpx.Response | None:
        headers = dict(kwargs.pop("headers", None) or {})  # type: ignore[call-overload]
        if signed and self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        started = time.perf_counter()
        self._sheet.requests += 1
        try:
            response = await self._client.request(method, path, headers=headers, **kwargs)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self._sheet.fail(f"{method} {path}: {type(error).__name__} {error}")
            return None
        self._sheet.latencies[name].append(time.perf_counter() - started)
        self._sheet.statuses[response.status_code] += 1
        if response.status_code not in expect:
            self._sheet.fail(f"{method} {path}: {response.status_code} {response.text[:200]!r}")
            return None
        return response

    async def _sign_up(self) -> None:
        self._token = ""
        self._client.cookies.clear()
        email = f"s{uuid.UUID(int=self._rng.getrandbits(128)).hex[:20]}@example.com"
        body = {"email": email, "password": PASSWORD, "name": "Sam"}
        if await self.call("register", "POST", "/api/auth/register", (201,), json=body) is None:
            return
        self._sheet.registered.add(email)
        answer = await self.call("sign in", "POST", "/api/auth/token", json={"email": email, "password": PASSWORD})
        if answer is not None:
            self._token, self._refresh = answer.json()["access_token"], answer.json()["refresh_token"]
            await self.call("me", "GET", "/api/auth/me")

    async def _browse(self) -> None:
        await self.call("browse", "GET", "/api/catalog/products", signed=False)
        await self.call("browse page", "GET", "/", signed=False)

    async def _order_and_pay(self) -> None:
        product = self._rng.randint(1, 200)
        body = {"items": [{"product_id": product, "quantity": 1}]}
        answer = await self.call("order", "POST", "/api/orders", (201, 409), json=body)
        if answer is None or answer.status_code == 409:  # out of stock is an answer, not a failure
            return
        order = answer.json()["id"]
        paid = await self.call("pay order", "POST", f"/api/orders/{order}/pay", json={"card_token": CARD})
        if paid is None:
            return
        self._sheet.paid_orders.add(order)
        self._sheet.captured[paid.json()["payment"]["id"]] = paid.json()["payment"]["amount"]
        if self._rng.random() < 0.25:
            refund = await self.call("refund order", "POST", f"/api/orders/{order}/refund", (200, 201), json={})
            if refund is not None:
                self._sheet.refunded[refund.json()["refund"]["id"]] = refund.json()["refund"]["amount"]

    async def _pay_directly(self) -> None:
        amount = f"{self._rng.randint(5, 90)}.{self._rng.randint(0, 99):02d}"
        body = {"amount": amount, "currency": "EUR", "card_token": CARD, "description": "voucher"}
        made = await self.call("pay: intent", "POST", "/api/payments/intents", (201,), json=body, headers=self._key())
        if made is None:
            return
        intent = made.json()["id"]
        path = f"/api/payments/intents/{intent}"
        done = await self.call("pay: capture", "POST", f"{path}/capture", headers=self._key(), json={})
        if done is None:
            return
        self._sheet.captured[intent] = amount
        read = await self.call("read own payment", "GET", path)
        if read is not None and read.json()["status"] == "created":
            self._sheet.fail(f"GET {path}: read after write saw status created")
        if self._rng.random() < 0.5:
            back = {"amount": "1.50", "reason": "test"}
            refund = await self.call("refund", "POST", f"{path}/refunds", (201,), json=back, headers=self._key())
            if refund is not None:
                self._sheet.refunded[refund.json()["id"]] = "1.50"

    async def _account(self) -> None:
        await self.call("me", "GET", "/api/auth/me")
        await self.call("list payments", "GET", "/api/payments/intents?limit=20")
        if self._refresh:
            body = {"refresh_token": self._refresh}
            answer = await self.call("refresh", "POST", "/api/auth/token/refresh", json=body)
            if answer is not None:
                self._token = answer.json()["access_token"]

    async def _pages(self) -> None:
        """Through the monolith's own pages: form sign-up, cart, checkout, account: all by session and CSRF."""
        self._client.cookies.clear()
        email = f"p{uuid.UUID(int=self._rng.getrandbits(128)).hex[:20]}@example.com"
        form = {"email": email, "name": "Pat", "password": PASSWORD}
        if await self._post_form("page: register", "/register/", form) is None:
            return
        self._sheet.registered.add(email)
        product = self._rng.randint(1, 200)
        if await self._post_form("page: add to cart", "/cart/", {"product_id": str(product), "quantity": "1"}) is None:
            return
        done = await self._post_form("page: checkout", "/checkout/", {"card_token": CARD})
        if done is None:
            return
        found = re.search(r"/orders/(\d+)", done.headers.get("location", ""))
        if found:
            self._sheet.paid_orders.add(int(found.group(1)))
        await self.call("page: account", "GET", "/account/", signed=False)

    async def _post_form(self, name: str, path: str, form: dict[str, str]) -> httpx.Response | None:
        page = await self.call(f"{name} (form)", "GET", path, signed=False)
        if page is None:
            return None
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if token is None:
            self._sheet.fail(f"GET {path}: no CSRF token in the form")
            return None
        return await self.call(
            name,
            "POST",
            path,
            (302, 303),
            signed=False,
            data={**form, "csrfmiddlewaretoken": token.group(1)},
            headers={
                "Referer": str(self._client.base_url.join(path)),
                "Origin": str(self._client.base_url).rstrip("/"),
            },
        )

    def _key(self) -> dict[str, str]:
        return {"Idempotency-Key": uuid.UUID(int=self._rng.getrandbits(128)).hex}


class Traffic:
    """A crowd of shoppers, in this process, started and stopped together."""

    def __init__(self, base_url: str, *, shoppers: int = 6, seed: int = 1) -> None:
        self.sheet = Sheet()
        self._stop = asyncio.Event()
        rng = random.Random(seed)
        self._shoppers = [
            Shopper(base_url, self.sheet, random.Random(rng.random()), self._stop) for _ in range(shoppers)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(s.live(), name=f"shopper {n}") for n, s in enumerate(self._shoppers)]

    async def stop(self) -> Sheet:
        """Let everybody finish the step they are at; the sheet is complete afterwards."""
        self._stop.set()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                self.sheet.fail(f"a shopper stopped: {result!r}")
        return self.sheet


def percentile(values: list[float], share: float) -> float:
    """The value below which that share lies; 0.0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(sheet: Sheet) -> str:
    """The sheet as JSON, for a person or a test that failed."""
    return json.dumps(
        {
            "requests": sheet.requests,
            "failures": list(itertools.islice(sheet.failures, 20)),
            "statuses": dict(sheet.statuses),
            "captured": len(sheet.captured),
            "refunded": len(sheet.refunded),
            "p50_ms": {k: round(percentile(v, 0.5) * 1000, 1) for k, v in sorted(sheet.latencies.items())},
        },
        indent=1,
    )
