"""Writes of the two-sided shop: rows and mail. Both sides capture them; the candidate's are never carried out."""

from __future__ import annotations

import datetime as dt
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strangler_proxy.contrib import shadow_capture, shadow_rows
from tests.acceptance.shadow_site_reads import is_candidate

LIMIT = 100
TABLES = ("payment", "invoice", "refund", "address")

SCHEMA = "".join(
    f"CREATE TABLE {table} (id bigserial PRIMARY KEY, what text NOT NULL, amount integer NOT NULL);" for table in TABLES
) + "CREATE TABLE mail (id bigserial PRIMARY KEY, text text NOT NULL);"  # fmt: skip


def schema() -> str:
    """Tables, and what tells of their rows."""
    columns = '{"id": "id", "what": "what", "amount": "amount"}'
    told = "".join(f"SELECT strangler.report_rows('{table}', '{table}', '{columns}', '{{id}}');" for table in TABLES)
    return SCHEMA + shadow_rows.schema_sql() + told


async def insert(request: Request, table: str, what: str, amount: int) -> int:
    """A row; its id."""
    async with request.app.state.pool.connection() as connection:
        query = f"INSERT INTO {table} (what, amount) VALUES (%s, %s) RETURNING id"
        (id_,) = await (await connection.execute(query.encode(), [what, amount])).fetchone()
        return int(id_)


async def mail(request: Request, text: str) -> None:
    """A mail that is sent by being written down, unless this request is mirrored."""
    capture = shadow_capture.current.get()
    if capture is not None:
        capture.note("mail", {"subject": text})
    if capture is None or not capture.mirrors:
        async with request.app.state.pool.connection() as connection:
            await connection.execute("INSERT INTO mail (text) VALUES (%s)", [text])


def made(id_: int, status: int = 201, **more: Any) -> Response:
    """What was made, with the time of it."""
    return JSONResponse({"id": id_, "created_at": dt.datetime.now(dt.UTC).isoformat(), **more}, status_code=status)


async def pay(request: Request) -> Response:
    """Planted: a double effect."""
    amount = int((await request.json())["amount"])
    id_ = await insert(request, "payment", "charge", amount)
    if is_candidate(request):
        await insert(request, "payment", "charge", amount)
    await mail(request, "thank you")
    return made(id_, amount=amount)


async def bill(request: Request) -> Response:
    """Planted: the receipt is not sent."""
    amount = int((await request.json())["amount"])
    id_ = await insert(request, "invoice", "bill", amount)
    if not is_candidate(request):
        await mail(request, f"receipt over {amount}")
    return made(id_)


async def refund(request: Request) -> Response:
    """Planted: a refund over the limit is allowed."""
    amount = int((await request.json())["amount"])
    if amount > LIMIT and not is_candidate(request):
        return JSONResponse({"error": f"at most {LIMIT}"}, status_code=422)
    return made(await insert(request, "refund", "refund", amount))


async def move(request: Request) -> Response:
    """Planted: 200 for 201."""
    id_ = await insert(request, "address", "moved", 0)
    return made(id_, 200 if is_candidate(request) else 201)


def routes() -> list[Route]:
    """All writes."""
    return [
        Route("/payments", pay, methods=["POST"]),
        Route("/invoices", bill, methods=["POST"]),
        Route("/refunds", refund, methods=["POST"]),
        Route("/addresses", move, methods=["POST"]),
    ]
