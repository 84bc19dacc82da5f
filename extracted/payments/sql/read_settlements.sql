-- The settlements of a day, by currency.
SELECT currency, captured_total, refunded_total, payments
FROM settlement
WHERE date = %(date)s::date
ORDER BY currency
