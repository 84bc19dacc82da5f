"""The payments that are there before anything moves: made by the database, so that a million of them are quick."""

from __future__ import annotations

import psycopg

CURRENCIES = ("EUR", "GBP", "USD")
PEOPLE = 5_000
_AT_ONCE = 100_000

_PEOPLE = """
INSERT INTO accounts_user (email, name, password)
SELECT 'person' || g || '@example.org', 'Person ' || g, '!' FROM generate_series(1, %s::integer) AS g RETURNING id
"""
_INTENTS = """
INSERT INTO payments_intent (id, user_id, amount, currency, status, captured_amount, refunded_amount, card_token,
    description, processor_charge_id, created_at, updated_at)
SELECT md5('intent ' || g)::uuid, %(first)s::bigint + g %% %(people)s::integer, a.amount,
    (ARRAY['EUR', 'GBP', 'USD'])[1 + g %% 3], s.status,
    CASE WHEN s.status IN ('captured', 'refunded') THEN a.amount ELSE 0 END,
    CASE s.status WHEN 'refunded' THEN a.amount ELSE 0 END, 'tok_' || md5(g::text), 'order ' || g,
    CASE WHEN s.status IN ('captured', 'refunded') THEN 'ch_' || g END,
    timestamptz '2026-01-01' + g * interval '1 second', timestamptz '2026-01-01' + g * interval '1 second'
FROM generate_series(%(start)s::integer, %(end)s::integer) AS g
CROSS JOIN LATERAL (SELECT (1 + g::bigint * 7919 %% 99999) / 100.0 AS amount) AS a
CROSS JOIN LATERAL (SELECT (ARRAY['captured', 'captured', 'captured', 'created', 'declined', 'captured', 'captured',
    'captured', 'refunded', 'captured'])[1 + g %% 10] AS status) AS s
"""
_REFUNDS = """
INSERT INTO payments_refund (id, intent_id, amount, status, reason, processor_refund_id, created_at, updated_at)
SELECT md5('refund ' || id)::uuid, id, amount, 'succeeded', '', 're_' || id, created_at, updated_at
FROM payments_intent WHERE status = 'refunded'
"""
_KEYS = """
INSERT INTO payments_idempotencykey (user_id, key, fingerprint, response_status, response_body, locked_at, created_at)
SELECT user_id, 'key-' || id, md5(id::text) || md5(amount::text), 201, '{"id": "' || id || '"}', created_at, created_at
FROM payments_intent WHERE status = 'created'
"""


def fill(monolith: str, payments: int) -> dict[str, int]:
    """Make people, payments, a refund for one in ten and a key for one in ten; how many rows by table."""
    with psycopg.connect(monolith, autocommit=True) as link:
        people = [row[0] for row in link.execute(_PEOPLE, (PEOPLE,))]
        for start in range(1, payments + 1, _AT_ONCE):
            end = min(start + _AT_ONCE - 1, payments)
            link.execute(_INTENTS, {"first": people[0], "people": len(people), "start": start, "end": end})
        refunds, keys = link.execute(_REFUNDS).rowcount, link.execute(_KEYS).rowcount
        link.execute("VACUUM ANALYZE payments_intent, payments_refund, payments_idempotencykey")
    return {"intents": payments, "refunds": refunds, "keys": keys}
