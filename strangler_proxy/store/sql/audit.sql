-- name: history
-- Newest first, of one subject or of all.
SELECT id, at, actor, verb, subject, reason, before, after, revision, previous_hash, hash FROM strangler.audit
WHERE %(subject)s::text IS NULL OR subject = %(subject)s ORDER BY id DESC LIMIT %(limit)s

-- name: onward
-- The next entries of the chain up to one.
SELECT id, at, actor, verb, subject, reason, before, after, revision, previous_hash, hash FROM strangler.audit
WHERE id > %(after)s AND id <= %(last)s ORDER BY id LIMIT 500
