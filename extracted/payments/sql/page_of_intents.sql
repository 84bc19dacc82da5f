-- Ids of a customer's intents, newest first, after a cursor (null: from the newest on).
SELECT id
FROM intent
WHERE customer_id = %(customer_id)s
  AND (%(after_time)s::timestamptz IS NULL OR (created_at, id) < (%(after_time)s::timestamptz, %(after_id)s::uuid))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
