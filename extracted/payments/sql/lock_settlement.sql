-- One settlement of a date at a time, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('payments.settlement:' || %(date)s, 0))
