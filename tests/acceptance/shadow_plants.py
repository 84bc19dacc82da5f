"""What is planted in the candidate of `shadow_site`, what is only noise there, and the traffic that meets both."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from strangler_proxy.core.difference import Kind

Asked = tuple[str, str, str, bytes]
"""Method, target, further fields (lines that end in CRLF) and body of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A fault, and where a report has to show it. `more` are paths on which it may show as well."""

    name: str
    template: str
    path: str
    kind: Kind
    method: str = "GET"
    more: tuple[str, ...] = ()


def _plant(name: str, where: str, path: str, kind: Kind, *more: str) -> Plant:
    method, _, template = where.partition(" ")
    return Plant(name=name, method=method, template=template, path=path, kind=kind, more=more)


PLANTS = (
    _plant("wrong rounding in one currency", "GET /prices/{id}", "total", Kind.VALUE),
    _plant("a member missing for staff alone", "GET /products/{id}", "margin", Kind.MISSING),
    _plant("dates off by one zone", "GET /bookings/{id}", "starts_at", Kind.VALUE),
    _plant("another order of equal prices", "GET /search", "items", Kind.ORDER, "items[].sku"),
    _plant("a stale cache", "GET /stock/{id}", "level", Kind.VALUE),
    _plant("somebody else's row", "GET /orders/{id}", "customer", Kind.VALUE),
    _plant("200 for 201", "POST /addresses", "status", Kind.VALUE),
    _plant("a dropped header", "GET /downloads/{id}", "header.content-disposition", Kind.MISSING),
    _plant("a cookie without HttpOnly", "GET /settings-page", "cookie.theme.httponly", Kind.MISSING),
    _plant("404 for 403", "GET /vault/{id}", "status", Kind.VALUE),
    _plant("null for absent", "GET /articles/{id}", "subtitle", Kind.EXTRA),
    _plant("a number as text", "GET /counts/{id}", "count", Kind.TYPE),
    _plant("a list that ends at a page", "GET /reviews/{id}", "reviews", Kind.LENGTH),
    _plant("another media type", "GET /feeds/{id}", "header.content-type", Kind.VALUE, "text", "bytes"),
    _plant("a link that leads elsewhere", "GET /guides/{id}", "html:main > p > a[href]", Kind.VALUE),
    _plant("one column of a CSV", "GET /exports/{id}", "csv[].tax", Kind.VALUE),
    _plant("UTF-8 read as Latin-1", "GET /cities/{id}", "name", Kind.VALUE),
    _plant("gzip that breaks off", "GET /archives/{id}", "bytes", Kind.ERROR),
    _plant("HEAD with another length", "HEAD /files/{id}", "header.content-length", Kind.VALUE),
    _plant("a lost newline at the end", "GET /keys/{id}", "text", Kind.VALUE),
    _plant("an item twice", "GET /carts/{id}", "items", Kind.LENGTH),
    _plant("a lost filter", "GET /catalog", "products", Kind.LENGTH, "products[].sku", "products[].colour"),
    _plant("a page that says sorry, with 200", "GET /statements/{id}", "header.content-type", Kind.VALUE, "text"),
    _plant("a refund over the limit", "POST /refunds", "status", Kind.VALUE),
    _plant("a double effect", "POST /payments", "effect.row", Kind.LENGTH),
    _plant("a missing receipt", "POST /invoices", "effect.mail", Kind.LENGTH),
)

NOISE = {
    "ids, new in each answer": "GET /quotes/{id}: quote",
    "ids of two kinds, one to one": "GET /customers/{id}: customer_id, and rows: a rule (alias)",
    "timestamps": "GET /quotes/{id}: generated_at, and created_at of what was posted",
    "nonces": "GET /page: in a header and in the page",
    "order of keys": "GET /preferences/{id}",
    "formats of numbers": "GET /rates",
    "white space": "GET /preferences/{id}, GET /page",
    "trace ids in headers": "everywhere: X-Trace",
    "Date and Server": "everywhere",
    "entity tags": "GET /images/{id}: header.etag: a rule (ignore)",
    "order of a set": "GET /tags/{id}: tags",
    "age in a cache": "everywhere: Age, X-Cached-For; GET /cached/{id}",
    "a token in a form": "GET /form: input[name=csrf]",
    "ads that take turns": "GET /banner: ads: a rule (unordered)",
    "a balancer's cookie": "everywhere: lb",
    "level of gzip": "everywhere",
}
"""Each with where it is, and the rule that a team has to give; everything else is found out by asking twice."""

RULES = (
    ("new-ids", "--route", "/customers/{id}", "--path", "customer_id", "--alias", "customer"),
    ("etags", "--path", "header.etag", "--ignore", "--kind", "value"),
    ("ads", "--route", "/banner", "--path", "ads", "--unordered"),
    ("head-lengths", "--route", "/files/{id}", "--path", "header.content-length", "--compare"),
    *(
        (f"{table}-{number}", "--route", f"/{table}", "--path", path, "--alias", table)
        for table in ("payments", "invoices", "refunds", "addresses")
        for number, path in enumerate(["id", "effect.row[].key.id", "effect.row[].values.id"])
    ),
)
"""Arguments of `strangler shadow rule add`, the rule's name first."""


def _get(path: str, top: int = 400, *, fields: str = "", method: str = "GET") -> Callable[[random.Random], Asked]:
    return lambda chance: (method, path.replace("#", str(chance.randrange(1, top))), fields, b"")


def _post(path: str, top: int) -> Callable[[random.Random], Asked]:
    def asked(chance: random.Random) -> Asked:
        body = json.dumps({"amount": chance.randrange(1, top)}).encode()
        return "POST", path, "Content-Type: application/json\r\n", body

    return asked


def _price(chance: random.Random) -> Asked:
    currency = chance.choice(["EUR", "CHF", "HUF", "SEK"])
    return "GET", f"/prices/{chance.randrange(1, 400)}?currency={currency}", "", b""


def _product(chance: random.Random) -> Asked:
    who = chance.choice(["", "staff-1", "customer-7", "customer-9"])
    fields = f"Authorization: Bearer {who}\r\n" if who else ""
    return "GET", f"/products/{chance.randrange(1, 400)}", fields, b""


_SIGNED = "Authorization: Bearer customer-7\r\n"

KINDS: tuple[Callable[[random.Random], Asked], ...] = (
    _price,
    _product,
    _get("/bookings/#"),
    _get("/search?sort=price&from=#"),
    _get("/stock/#", 6),
    _get("/orders/#", fields=_SIGNED),
    _get("/downloads/#"),
    _get("/settings-page", fields=_SIGNED),
    _get("/vault/#"),
    _get("/articles/#"),
    _get("/counts/#"),
    _get("/reviews/#"),
    _get("/feeds/#"),
    _get("/guides/#"),
    _get("/exports/#"),
    _get("/cities/#"),
    _get("/archives/#"),
    _get("/files/#"),
    _get("/files/#", method="HEAD"),
    _get("/keys/#"),
    _get("/carts/#", fields=_SIGNED),
    _get("/catalog?colour=red"),
    _get("/catalog"),
    _get("/statements/#", fields=_SIGNED),
    _get("/quotes/#"),
    _get("/customers/#", 60),
    _get("/page"),
    _get("/form"),
    _get("/preferences/#"),
    _get("/rates"),
    _get("/tags/#"),
    _get("/banner"),
    _get("/images/#"),
    _get("/cached/#"),
    _get("/slow/#"),
    _post("/payments", 50),
    _post("/invoices", 50),
    _post("/refunds", 160),
    _post("/addresses", 50),
)
