"""A site that speaks secrets: what it is asked, and what it makes up, in every part of an answer and in its effects.

Both sides speak other secrets, so that each pair differs and may be kept. `made(number, side)` says which: so does a
test know them. `/KIND/...?n=NUMBER` asks for one kind of answer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strangler_proxy.contrib import shadow_capture
from strangler_proxy.contrib.starlette.shadow import capture_effects
from tests.unit.test_shadow_redaction import NAMELESS, NAMES, password

MAKERS: tuple[Callable[[random.Random], str], ...] = (*NAMELESS.values(), password)
"""How secrets are made up; the last kind shows only by the name that it stands under."""


def made(number: int, side: str) -> tuple[str, str]:
    """A secret, and the name that it needs to be known as one (else one that says nothing)."""
    chance = random.Random(f"{number} {side}")
    make = MAKERS[number % len(MAKERS)]
    return make(chance), chance.choice(NAMES if make is password else ["note", "value", "q", "data"])


def is_named(number: int) -> bool:
    """Is it a secret by its name alone?"""
    return MAKERS[number % len(MAKERS)] is password


def as_json(secret: str, name: str, number: int) -> Response:
    """Deep in a document."""
    said: dict[str, Any] = {"id": number, name: secret, "items": [{"n": 1, name: secret}], "price": "1.10"}
    return JSONResponse(said)


def as_html(secret: str, name: str, number: int) -> Response:
    """In a field, a link and, where it shows by itself, in text."""
    text = "" if is_named(number) else secret
    link = f"/next?{urlencode({name: secret})}"
    value = secret.replace("&", "&amp;").replace('"', "&quot;")
    field = f'<input type="hidden" name="{name}" value="{value}"><textarea name="{name}">{escape(secret)}</textarea>'
    return Response(f"<main>{field}<a href='{link}'>on</a><p>for {text}</p></main>", media_type="text/html")


def as_text(secret: str, name: str, number: int) -> Response:
    """In a line."""
    line = f"{name}={quote(secret)}" if is_named(number) else f"sent to {secret} today"
    return Response(f"line {number}\n{line}\nend\n", media_type="text/plain")


def as_csv(secret: str, name: str, number: int) -> Response:
    """In a column."""
    cell = '"' + secret.replace('"', '""') + '"'
    return Response(f"id,{name}\n{number},{cell}\n", media_type="text/csv")


def as_form(secret: str, name: str, number: int) -> Response:
    """As a form is sent."""
    return Response(urlencode({"id": number, name: secret}), media_type="application/x-www-form-urlencoded")


def as_fields(secret: str, name: str, number: int) -> Response:
    """In fields and cookies of the answer."""
    answer = JSONResponse({"id": number})
    plain = quote(secret)
    answer.headers["location"] = f"/next?{urlencode({name: secret})}"
    answer.headers["x-api-key"] = plain
    answer.headers.append("set-cookie", f"sid={plain}; Path=/; HttpOnly")
    return answer


ANSWERS = {
    "json": as_json, "html": as_html, "text": as_text, "csv": as_csv, "form": as_form, "fields": as_fields,
}  # fmt: skip


async def speak(request: Request) -> Response:
    """Answer with this side's secret, packed where that is understood; posted ones have effects, too."""
    number = int(request.query_params.get("n", "0"))
    secret, name = made(number, request.app.state.side)
    capture = shadow_capture.current.get()
    if capture is not None and request.method == "POST":
        capture.note("mail", {"to": f"{number}@example.com", name: secret})
        capture.note("call", {"method": "POST", "url": "http://cards/v1", "body": json.dumps({name: secret})})
    answer = ANSWERS[request.path_params["kind"]](secret, name, number)
    if number % 2:
        answer.body = gzip.compress(bytes(answer.body))
        answer.headers["content-encoding"] = "gzip"
        answer.headers["content-length"] = str(len(answer.body))
    return answer


async def ready(request: Request) -> Response:
    """For whoever waits for the start, and for a first proof."""
    return JSONResponse({"ready": True})


def create_app(side: str) -> Starlette:
    """One side."""
    app = Starlette(
        routes=[Route("/{kind}/{rest:path}", speak, methods=["GET", "POST"]), Route("/", ready)],
    )
    app.state.side = side
    capture_effects(app)
    return app


def main() -> None:
    """Serve one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--side", choices=["control", "candidate"], required=True)
    said = parser.parse_args()
    uvicorn.run(create_app(said.side), host="127.0.0.1", port=said.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
