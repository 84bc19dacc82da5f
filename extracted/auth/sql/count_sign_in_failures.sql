-- Failures of one address within the window, and the seconds until the count falls below the limit.
SELECT count(*) AS failures,
       ceil(extract(epoch FROM min(failed_at) + make_interval(secs => %(window_s)s) - clock_timestamp()))::integer
           AS retry_after_s
FROM (
    SELECT failed_at
    FROM sign_in_failure
    WHERE email_hash = %(email_hash)s
      AND failed_at > clock_timestamp() - make_interval(secs => %(window_s)s)
    ORDER BY failed_at DESC
    LIMIT %(limit)s
) AS latest
