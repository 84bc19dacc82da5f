"""One conversation with one implementation: requests are sent, answers are kept for the comparison."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tests.fakes.card_processor.running import WEBHOOK_SECRET
from tests.parity.servers import WEBHOOK_PATH, Side
from tests.servers import ROOT

PASSWORD = "correct horse battery"
HEADERS_THAT_MATTER = (
    "allow",
    "cache-control",
    "content-type",
    "idempotent-replay",
    "location",
    "retry-after",
    "www-authenticate",
)
TABLES = {
    "services": {"key": "idempotency_key", "user": "customer_id", "intent": "intent"},
    "monolith": {"key": "payments_idempotencykey", "user": "user_id", "intent": "payments_intent"},
}

_TEXTS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "id"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "time"),
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "token"),
)
_HIDDEN = frozenset({"refresh_token", "next"})


def problems_of_the_page() -> dict[str, tuple[int, str, str]]:
    """Code -> status, title, detail: the table of docs/reference/http-api.md."""
    page = (ROOT / "docs/reference/http-api.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", page, re.M)
    return {code: (int(status), title, re.sub(r" \(with .*", "", detail)) for code, status, title, detail in rows}


PROBLEMS = problems_of_the_page()


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and its answer, without what differs from run to run."""

    request: str = field(compare=False)
    """For whoever reads a difference: it holds ids and tokens of this side."""
    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody with an account at this side."""

    id: int
    email: str
    token: str


@dataclass
class Shop:
    """A client of one side. `name` makes addresses unique; the same name at the other side makes the same ones."""

    side: Side
    name: str
    transcript: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(timeout=30, trust_env=False)
        self._names: dict[str, str] = {}
        self._users = 0

    def close(self) -> None:
        """End the connections."""
        self.client.close()

    def email(self, label: str = "") -> str:
        """An address that no other case uses."""
        self._users += 1
        return f"{self.name}.{label or self._users}@example.com".replace("_", "-")

    def user(self, *, name: str = "Ada") -> User:
        """Register somebody; not part of the comparison."""
        email = self.email()
        answer = self.client.post(
            self.side.url("/api/auth/register"), json={"email": email, "password": PASSWORD, "name": name}
        )
        assert answer.status_code == 201, answer.text
        user_id = answer.json()["user"]["id"]
        return User(id=user_id, email=email, token=self.side.keys.mint(user_id))

    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        token: str | None = None,
        key: str | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        keep: bool = True,
    ) -> httpx.Response:
        """Send a request; `keep`: its answer is compared with the other side's."""
        sent = dict(headers or {})
        if document is not None:
            content = json.dumps(document).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        answer = self.client.request(method, self.side.url(path), content=content, headers=sent)
        if keep:
            self.keep(f"{method} {path} {document if document is not None else content!r}", answer)
        return answer

    def keep(self, request: str, answer: httpx.Response) -> None:
        """Put an answer into the comparison."""
        headers = {name: answer.headers[name] for name in HEADERS_THAT_MATTER if name in answer.headers}
        if answer.status_code == 429:
            headers["retry-after"] = "some seconds"
        body = answer.json() if answer.content else None
        self.transcript.append(
            Exchange(
                request=self._plain(request),
                status=answer.status_code,
                headers={name: self._plain(value) for name, value in headers.items()},
                body=self._without_chance(body),
            )
        )

    def webhook(
        self,
        event: Any,
        *,
        secret: str = WEBHOOK_SECRET,
        age_s: int = 0,
        signature: str | None = None,
        content_type: str = "application/json",
        keep: bool = True,
    ) -> httpx.Response:
        """Send what the card processor would; `event` is JSON, or bytes as they are."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        at = int(time.time()) - age_s
        mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": content_type}
        if signature != "":
            headers["Processor-Signature"] = signature or f"t={at},v1={mac}"
        return self.send("POST", WEBHOOK_PATH, content=body, headers=headers, keep=keep)

    def intent(self, user: User, amount: str = "12.50", *, card: str = "tok_visa", currency: str = "EUR") -> str:
        """Make an intent; not part of the comparison. Its id."""
        document = {"amount": amount, "currency": currency, "card_token": card}
        key = f"make-{time.monotonic_ns()}"
        answer = self.send("POST", "/api/payments/intents", document, token=user.token, key=key, keep=False)
        assert answer.status_code == 201, answer.text
        intent_id: str = answer.json()["id"]
        return intent_id

    def capture(self, user: User, intent_id: str, key: str = "capture", **more: Any) -> httpx.Response:
        """Capture an intent."""
        return self.send("POST", f"/api/payments/intents/{intent_id}/capture", token=user.token, key=key, **more)

    def refund(self, user: User, intent_id: str, amount: str, key: str, **more: Any) -> httpx.Response:
        """Refund a part of an intent."""
        path = f"/api/payments/intents/{intent_id}/refunds"
        return self.send("POST", path, {"amount": amount}, token=user.token, key=key, **more)

    def captured(self, user: User, amount: str = "12.50") -> str:
        """Make and capture an intent; not part of the comparison. Its id."""
        intent_id = self.intent(user, amount)
        answer = self.capture(user, intent_id, f"captured-{intent_id}", keep=False)
        assert answer.status_code == 200, answer.text
        return intent_id

    def status(self, user: User, intent_id: str) -> str:
        """The status of an intent as it is read."""
        answer = self.send("GET", f"/api/payments/intents/{intent_id}", token=user.token)
        assert answer.status_code == 200, answer.text
        status: str = answer.json()["status"]
        return status

    def lock_key(self, user: User, key: str, *, age_s: float) -> None:
        """As if a process that died had taken the key so long ago."""
        self._execute("UPDATE {key} SET locked_at = now() - make_interval(secs => %s) WHERE {user} = %s AND key = %s",
                      age_s, user.id, key)  # fmt: skip

    def status_quietly(self, user: User, intent_id: str) -> str:
        """The same, not part of the comparison."""
        answer = self.send("GET", f"/api/payments/intents/{intent_id}", token=user.token, keep=False)
        status: str = answer.json()["status"]
        return status

    def date_intent(self, intent_id: str, day: str) -> None:
        """As if the payment had been made on that day."""
        self._execute("UPDATE {intent} SET created_at = %s::date + interval '12 hours' WHERE id = %s", day, intent_id)

    def _execute(self, statement: str, *values: object) -> None:
        names = {name: sql.Identifier(table) for name, table in TABLES[self.side.name].items()}
        with psycopg.connect(self.side.payments_database, options="-c timezone=UTC") as connection:
            assert connection.execute(sql.SQL(statement).format(**names), values).rowcount == 1  # type: ignore[arg-type]

    def charges(self, intent_id: str) -> list[dict[str, Any]]:
        """What the card processor has charged for an intent."""
        return [
            charge
            for charge in self.side.processor.ledger()["charges"]
            if charge["reference"] == intent_id and charge["status"] == "succeeded"
        ]

    def _without_chance(self, value: Any) -> Any:
        if isinstance(value, dict):
            hidden = {name: "something" for name, inner in value.items() if name in _HIDDEN and isinstance(inner, str)}
            if isinstance(value.get("id"), int):
                hidden["id"] = "a user"
            return {name: hidden.get(name) or self._without_chance(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._without_chance(inner) for inner in value]
        return self._plain(value) if isinstance(value, str) else value

    def _plain(self, text: str) -> str:
        for pattern, kind in _TEXTS:
            text = pattern.sub(lambda match, kind=kind: self._name(kind, match[0]), text)  # type: ignore[misc]
        return text

    def _name(self, kind: str, text: str) -> str:
        if kind != "id":
            return f"<{kind}>"
        return self._names.setdefault(text, f"<id {len(self._names) + 1}>")


Case = Callable[[Shop], None]


@dataclass
class Heard:
    """Runs each case once per side; a case that failed there fails again for whoever asks."""

    side: Side
    transcripts: dict[str, list[Exchange] | Exception] = field(default_factory=dict)

    def of(self, case: Case) -> list[Exchange]:
        """The answers that a case got here."""
        name = case.__name__
        if name not in self.transcripts:
            shop = Shop(self.side, name)
            try:
                case(shop)
                self.transcripts[name] = shop.transcript
            except Exception as error:  # noqa: BLE001 (told again to whoever asks)
                self.transcripts[name] = error
            finally:
                shop.close()
        found = self.transcripts[name]
        if isinstance(found, Exception):
            raise found
        return found


def expect_problem(
    answer: httpx.Response, code: str, *, detail: str | None = None, errors: dict[str, list[str]] | None = None
) -> None:
    """The answer is that problem, word for word as the page has it."""
    status, title, words = PROBLEMS[code]
    wanted = {"type": f"urn:shop:problem:{code}", "title": title, "status": status, "code": code}
    wanted["detail"] = detail or words
    if errors is not None:
        wanted["errors"] = errors
    assert (answer.status_code, answer.json()) == (status, wanted)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    if code in ("not_authenticated", "invalid_token"):
        assert answer.headers["www-authenticate"] == "Bearer"
    if code == "in_progress":
        assert answer.headers["retry-after"] == "1"
    if code == "processor_unavailable":
        assert answer.headers["retry-after"] == "2"


def expect(answer: httpx.Response, status: int) -> Any:
    """The answer has that status; its JSON."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["cache-control"] == "no-store"
    if not answer.content:
        return None
    assert answer.headers["content-type"] == "application/json"
    return answer.json()
