-- name: read
-- Rows of these keys, as texts.
SELECT {texts} FROM {keys} JOIN {table} AS t ON {matches}

-- name: chunk
-- The next rows after a key, in an order that is the same on both sides.
SELECT {texts} FROM {table} AS t {after} ORDER BY {order} LIMIT %(limit)s

-- name: chunk_values
-- The same for COPY, as the types print themselves.
SELECT {values} FROM {table} AS t {after} ORDER BY {order} LIMIT {limit}

-- name: has_after
-- Whether anything comes after a key. Ordered: without statistics a planner would read the whole table.
SELECT true FROM {table} AS t {after} ORDER BY {order} LIMIT 1

-- name: past
-- Which of these keys come after one.
SELECT {given} FROM {keys} WHERE ({typed}) > ({after})

-- name: stage
-- Where a chunk waits that meets rows in the target.
CREATE TEMPORARY TABLE {staged} ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA

-- name: staged_delete
DELETE FROM {table} AS t {range} AND NOT EXISTS (SELECT FROM {staged} AS s WHERE {same_key})

-- name: staged_update
-- Compared as texts: equal values may be written differently, and every type has a text.
UPDATE {table} AS t SET {assignments} FROM {staged} AS s
WHERE {same_key} AND ROW({mine})::text <> ROW({theirs})::text

-- name: staged_insert
INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
SELECT {theirs} FROM {staged} AS s WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key})

-- name: keys_between
-- Keys after one and up to another.
SELECT {key_texts} FROM {table} AS t {range}

-- name: delete
DELETE FROM {table} AS t USING {keys} WHERE {matches}

-- name: update
UPDATE {table} AS t SET {assignments} FROM {rows} WHERE {matches}

-- name: insert
INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
SELECT {typed} FROM {rows} WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {matches})

-- name: park
-- Give up the values of unique columns for a moment, so that they can change hands.
UPDATE {table} AS t SET {parked} FROM {keys} WHERE {matches}

-- name: checksums
-- Count and two 64-bit sums over a range of keys.
SELECT count(*), coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0),
       coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)
FROM (SELECT md5(ROW({canonical})::text) AS h FROM {table} AS t {range}) AS hashed

-- name: hashes
-- Key and hash of each row in a range of keys.
SELECT {key_texts}, md5(ROW({canonical})::text) FROM {table} AS t {range}

-- name: hashes_of
-- Key and hash of each of these rows.
SELECT {key_texts}, md5(ROW({canonical})::text) FROM {keys} JOIN {table} AS t ON {matches}

-- name: canonicals
-- Key and canonical texts of these rows.
SELECT {key_texts}, {canonical} FROM {keys} JOIN {table} AS t ON {matches}

-- name: bound
-- The key that ends the next range.
SELECT {key_texts} FROM {table} AS t {after} ORDER BY {order} OFFSET %(rows)s LIMIT 1

-- name: totals
-- Sums by group.
SELECT {groups}, {sums} FROM {rows} GROUP BY {group_by} ORDER BY {group_by}

-- name: highest
-- The largest value of a column that a sequence feeds.
SELECT coalesce(max({column}), 0)::bigint FROM {table} AS t
