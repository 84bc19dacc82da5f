-- A webhook that has not come before; no row when it has.
INSERT INTO webhook_event (id, kind, payload)
VALUES (%(id)s, %(kind)s, %(payload)s)
ON CONFLICT (id) DO NOTHING
RETURNING id
