"""Reads of the two-sided shop in which nothing is wrong, though hardly two answers are the same."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import random
import secrets
import time
import uuid

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tests.acceptance.shadow_site_reads import is_candidate, number

ADS = ("shoes", "boats", "tea", "books", "lamps")
ROTATES_S = 60.0
SLOW_S = 0.03


async def quote(request: Request) -> Response:
    """An id and a time, new in each answer."""
    now = dt.datetime.now(dt.UTC).isoformat()
    return JSONResponse({"quote": str(uuid.uuid4()), "generated_at": now, "price": number(request) * 2})


async def customer(request: Request) -> Response:
    """The new side names customers by UUIDs: one to one."""
    id_ = number(request)
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, str(id_))) if is_candidate(request) else id_
    return JSONResponse({"customer_id": name, "since": 2020})


async def page(request: Request) -> Response:
    """A nonce for scripts in a header and in the page, other white space, another order of attributes."""
    nonce = secrets.token_urlsafe(12)
    if is_candidate(request):
        body = f'<main>\n  <a class="b a" href="/x">x</a>\n  <script nonce="{nonce}">go()</script>\n</main>'
    else:
        body = f"<main><a href='/x' class='a b'>x</a><script nonce='{nonce}'>go()</script></main>"
    return HTMLResponse(body, headers={"content-security-policy": f"script-src 'nonce-{nonce}'"})


async def form(request: Request) -> Response:
    """A token against cross-site requests, new in each page."""
    token = secrets.token_hex(16)
    return HTMLResponse(
        f'<form method="post"><input type="hidden" name="csrf" value="{token}"><button>Go</button></form>'
    )


async def preferences(request: Request) -> Response:
    """Another order of keys, other white space."""
    said = {"language": "de", "theme": "dark", "sizes": {"small": 1, "large": 2}, "id": number(request)}
    if is_candidate(request):
        return Response(json.dumps(dict(sorted(said.items(), reverse=True)), indent=2), media_type="application/json")
    return JSONResponse(said)


async def rates(request: Request) -> Response:
    """The same numbers, spelled differently."""
    body = '{"low": 1.10, "high": 100.0, "tiny": 0.0000010}' if is_candidate(request) else (
        '{"low": 1.1, "high": 1e2, "tiny": 1e-6}'
    )  # fmt: skip
    return Response(body, media_type="application/json")


async def tags(request: Request) -> Response:
    """A set: its order means nothing, and the control draws it each time."""
    found = ["new", "sale", "green", "small", "hot"]
    random.shuffle(found)
    return JSONResponse({"tags": found, "of": number(request)})


async def banner(request: Request) -> Response:
    """Ads take turns, on each side by a clock of its own: for a minute the control says the same."""
    turn = int(time.time() / ROTATES_S) + (2 if is_candidate(request) else 0)
    ads = [{"ad": ADS[(turn + place) % len(ADS)]} for place in range(len(ADS))]
    return JSONResponse({"ads": ads, "greeting": "hello"})


async def image(request: Request) -> Response:
    """Each side computes its entity tags in a way of its own."""
    body = b"\x89" + bytes([number(request) % 250]) * 200
    made = hashlib.sha1 if is_candidate(request) else hashlib.md5
    return Response(body, media_type="image/png", headers={"etag": f'"{made(body).hexdigest()}"'})


async def cached(request: Request) -> Response:
    """How long it was in a cache."""
    hit = random.choice(["HIT", "MISS"])
    return JSONResponse({"cached_for_s": random.randrange(3_000), "value": number(request)}, headers={"x-cache": hit})


async def slow(request: Request) -> Response:
    """Slower on the new side, and right."""
    if is_candidate(request):
        await asyncio.sleep(SLOW_S)
    return JSONResponse({"value": number(request)})


def routes() -> list[Route]:
    """All reads without a fault."""
    return [
        Route("/quotes/{id:int}", quote),
        Route("/customers/{id:int}", customer),
        Route("/page", page),
        Route("/form", form),
        Route("/preferences/{id:int}", preferences),
        Route("/rates", rates),
        Route("/tags/{id:int}", tags),
        Route("/banner", banner),
        Route("/images/{id:int}", image),
        Route("/cached/{id:int}", cached),
        Route("/slow/{id:int}", slow),
    ]
