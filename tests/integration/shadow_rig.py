"""What a proxy does for shadow mode, by hand: marks, recorded effects, proofs; and what a database holds, as a sum."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg import sql

from strangler_proxy.core import shadow_wire as wire

SECRET = "of-the-mirror-of-a-test-0123456789"
KEYS = wire.ShadowKeys(SECRET.encode())


@dataclass(frozen=True, kw_only=True)
class Told:
    """An answer, and what it says of effects; `effects` is None where there is no valid proof."""

    answer: httpx.Response
    values: list[str]
    effects: list[dict[str, Any]] | None

    @property
    def status(self) -> int:
        """Status of the answer."""
        return self.answer.status_code

    def of(self, kind: str) -> list[Any]:
        """Details of the effects of one kind."""
        assert self.effects is not None, (self.status, self.answer.text, dict(self.answer.headers))
        return [effect["detail"] for effect in self.effects if effect["kind"] == kind]


def marks(
    role: str, body: bytes, *, recorded: list[str] | None = None, id: str = "", at: float = 0.0, **changed: Any
) -> list[tuple[str, str]]:
    """The fields of a marked request."""
    given = {
        "role": role,
        "id": id or secrets.token_hex(16),
        "at": at or time.time(),
        "flag": "parcels",
        "body_sha256": wire.digest_of(body),
        "recorded": recorded or [],
        **changed,
    }
    fields = [(wire.SHADOW_HEADER, wire.request_value(KEYS, **given))]
    return fields + [(wire.RECORDED_HEADER, value) for value in recorded or []]


def told(answer: httpx.Response, fields: list[tuple[str, str]]) -> Told:
    """Check the proof of an answer to a marked request."""
    mark = dict(part.split("=", 1) for part in fields[0][1].split("; "))
    values = answer.headers.get_list(wire.EFFECTS_HEADER)
    proof = answer.headers.get(wire.PROOF_HEADER)
    proven = wire.proven(KEYS, id=mark["id"], role=mark["role"], effects_values=values, proof=proof)
    return Told(answer=answer, values=values, effects=wire.decode_effects(values) if proven else None)


async def ask(
    client: httpx.AsyncClient,
    role: str,
    path: str,
    *,
    method: str = "POST",
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
    recorded: list[str] | None = None,
) -> Told:
    """Send a marked request."""
    fields = marks(role, content, recorded=recorded)
    answer = await client.request(method, path, content=content, headers=[*(headers or {}).items(), *fields])
    return told(answer, fields)


def sums(database: str) -> dict[str, str]:
    """A digest of the rows of every table, in all schemas but the server's own. Sequences are not rows."""
    found: dict[str, str] = {}
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(schema, table))
            rows = "\n".join(row[0] for row in connection.execute(query))
            found[f"{schema}.{table}"] = (
                f"{rows.count(chr(10)) + bool(rows)} {hashlib.sha256(rows.encode()).hexdigest()}"
            )
    return found
