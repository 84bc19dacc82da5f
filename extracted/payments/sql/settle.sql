-- Settle the currencies of a UTC day that have not been: the payments that were made on it, as they are now.
INSERT INTO settlement (date, currency, captured_total, refunded_total, payments)
SELECT %(date)s::date, currency, sum(captured_amount), sum(refunded_amount), count(*)
FROM intent
WHERE created_at >= %(date)s::date::timestamp AT TIME ZONE 'UTC'
  AND created_at < (%(date)s::date + 1)::timestamp AT TIME ZONE 'UTC'
  AND status IN ('captured', 'partially_refunded', 'refunded')
  AND NOT EXISTS (
      SELECT FROM settlement AS made WHERE made.date = %(date)s::date AND made.currency = intent.currency
  )
GROUP BY currency
ORDER BY currency
