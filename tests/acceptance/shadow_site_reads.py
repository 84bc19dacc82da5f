"""Reads of the two-sided shop; where `is_candidate` says so, a fault is planted."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

CITIES = ("Wien", "München", "Zürich", "Oslo", "Málaga", "Bonn")
COLOURS = ("red", "green", "blue")
STOCK_CHANGES_S = 15.0
PAGE = 20

_STARTED = time.time()


def is_candidate(request: Request) -> bool:
    """Is this the side with the faults?"""
    return bool(request.app.state.candidate)


def number(request: Request) -> int:
    """The id in the path."""
    return int(request.path_params["id"])


def signed_in(request: Request) -> str:
    """Who asks, empty for a guest."""
    return request.headers.get("authorization", "").partition(" ")[2]


async def price(request: Request) -> Response:
    """Planted: forints are rounded to whole ones."""
    currency = request.query_params.get("currency", "EUR")
    net = number(request) * 1.17 + 0.45
    total = round(net, 0 if is_candidate(request) and currency == "HUF" else 2)
    return JSONResponse({"net": round(net, 2), "total": f"{total:.2f}", "currency": currency})


async def product(request: Request) -> Response:
    """Planted: what staff sees is missing."""
    said: dict[str, Any] = {"name": f"product {number(request)}", "price": "9.90"}
    if signed_in(request).startswith("staff") and not is_candidate(request):
        said["margin"] = "2.10"
    return JSONResponse(said)


async def booking(request: Request) -> Response:
    """Planted: dates of one place are off by its time zone."""
    place = ("Lisbon", "Berlin", "Athens")[number(request) % 3]
    hour = 11 if is_candidate(request) and place == "Athens" else 9
    return JSONResponse({"place": place, "starts_at": f"2026-07-{number(request) % 27 + 1:02d}T{hour:02d}:30:00Z"})


async def search(request: Request) -> Response:
    """Planted: things of the same price come in another order."""
    start = int(request.query_params.get("from", "0"))
    found = [{"sku": f"s{n}", "price": (n // 3) * 5} for n in range(start, start + 12)]
    found.sort(key=lambda each: (each["price"], each["sku"]), reverse=False)
    if is_candidate(request):
        found.sort(key=lambda each: str(each["sku"]), reverse=True)
        found.sort(key=lambda each: int(str(each["price"])))
    return JSONResponse({"items": found})


async def stock(request: Request) -> Response:
    """Planted: a cache that was filled at the start and is never renewed."""
    at = _STARTED if is_candidate(request) else time.time()
    level = (int(at / STOCK_CHANGES_S) * 13 + number(request)) % 1_000
    return JSONResponse({"sku": number(request), "level": level})


async def order(request: Request) -> Response:
    """Planted: one in five gets somebody else's order."""
    id_ = number(request)
    row = id_ + 1 if is_candidate(request) and id_ % 5 == 0 else id_
    return JSONResponse({"id": id_, "customer": f"customer {row}", "state": "sent"})


async def download(request: Request) -> Response:
    """Planted: a field of the answer is missing."""
    fields = {} if is_candidate(request) else {"content-disposition": 'attachment; filename="manual.txt"'}
    return PlainTextResponse(f"manual {number(request)}\n", headers=fields)


async def settings_page(request: Request) -> Response:
    """Planted: a cookie lacks an attribute."""
    answer = HTMLResponse("<h1>Settings</h1><p>Choose a theme.</p>")
    answer.set_cookie("theme", "dark", secure=True, httponly=not is_candidate(request), samesite="lax")
    return answer


async def vault(request: Request) -> Response:
    """Planted: 404 for 403."""
    return JSONResponse({"error": "no"}, status_code=404 if is_candidate(request) else 403)


async def article(request: Request) -> Response:
    """Planted: null where a member is absent."""
    said: dict[str, Any] = {"title": f"article {number(request)}"}
    if number(request) % 2:
        said["subtitle"] = "with a subtitle"
    elif is_candidate(request):
        said["subtitle"] = None
    return JSONResponse(said)


async def counts(request: Request) -> Response:
    """Planted: a number as text."""
    count = number(request) * 3
    return JSONResponse({"count": str(count) if is_candidate(request) else count, "of": "visits"})


async def reviews(request: Request) -> Response:
    """Planted: a list ends at the size of a page."""
    found = [{"stars": n % 5 + 1, "text": f"review {n}"} for n in range(number(request) % 20 + 10)]
    return JSONResponse({"reviews": found[:PAGE] if is_candidate(request) else found})


async def feed(request: Request) -> Response:
    """Planted: another media type."""
    media = "text/xml" if is_candidate(request) else "application/rss+xml"
    return Response(f"<rss><item>{number(request)}</item></rss>", media_type=media)


async def guide(request: Request) -> Response:
    """Planted: a link leads elsewhere."""
    target = "/help/old" if is_candidate(request) else "/help"
    return HTMLResponse(f'<main><h1>Guide {number(request)}</h1><p>See <a href="{target}">help</a>.</p></main>')


async def export(request: Request) -> Response:
    """Planted: one column is computed differently."""
    rate = 0.2 if is_candidate(request) else 0.19
    rows = "".join(f"{n},{n * 10},{n * 10 * rate:.2f}\n" for n in range(1, number(request) % 5 + 3))
    return Response(f"line,amount,tax\n{rows}", media_type="text/csv")


async def city(request: Request) -> Response:
    """Planted: UTF-8 that was read as Latin-1."""
    name = CITIES[number(request) % len(CITIES)]
    return JSONResponse({"name": name.encode().decode("latin-1") if is_candidate(request) else name, "country": "x"})


async def archive(request: Request) -> Response:
    """Planted in `shadow_site`: gzip that breaks off."""
    return PlainTextResponse(f"archive {number(request)} " * 40)


async def file(request: Request) -> Response:
    """Planted: HEAD names another length than GET has."""
    body = b"x" * (100 + number(request))
    wrong = is_candidate(request) and request.method == "HEAD"
    answer = Response(body, media_type="application/octet-stream")
    if request.method == "HEAD":
        answer.headers["content-length"] = str(len(body) + 2 * wrong)
    return answer


async def keys(request: Request) -> Response:
    """Planted: the last line does not end."""
    text = f"key {number(request)}\nsecond line\n"
    return PlainTextResponse(text.rstrip("\n") if is_candidate(request) else text)


async def cart(request: Request) -> Response:
    """Planted: one item stands twice."""
    items = [{"sku": f"s{n}", "quantity": 1} for n in range(number(request) % 3 + 1)]
    return JSONResponse({"items": items + items[-1:] if is_candidate(request) else items})


async def catalog(request: Request) -> Response:
    """Planted: a filter of the query is lost."""
    colour = request.query_params.get("colour")
    every = [{"sku": f"c{n}", "colour": COLOURS[n % 3]} for n in range(9)]
    lost = is_candidate(request) or colour is None
    return JSONResponse({"products": every if lost else [each for each in every if each["colour"] == colour]})


async def statement(request: Request) -> Response:
    """Planted: a page that says sorry, with 200."""
    if is_candidate(request) and number(request) % 3 == 0:
        return HTMLResponse("<h1>Sorry</h1><p>Something went wrong.</p>")
    return JSONResponse({"balance": f"{number(request)}.00"})


def routes() -> list[Route]:
    """All reads with a fault."""
    return [
        Route("/prices/{id:int}", price),
        Route("/products/{id:int}", product),
        Route("/bookings/{id:int}", booking),
        Route("/search", search),
        Route("/stock/{id:int}", stock),
        Route("/orders/{id:int}", order),
        Route("/downloads/{id:int}", download),
        Route("/settings-page", settings_page),
        Route("/vault/{id:int}", vault),
        Route("/articles/{id:int}", article),
        Route("/counts/{id:int}", counts),
        Route("/reviews/{id:int}", reviews),
        Route("/feeds/{id:int}", feed),
        Route("/guides/{id:int}", guide),
        Route("/exports/{id:int}", export),
        Route("/cities/{id:int}", city),
        Route("/archives/{id:int}", archive),
        Route("/files/{id:int}", file),
        Route("/keys/{id:int}", keys),
        Route("/carts/{id:int}", cart),
        Route("/catalog", catalog),
        Route("/statements/{id:int}", statement),
    ]
