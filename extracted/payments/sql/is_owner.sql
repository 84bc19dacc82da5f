-- Whether the rows here are the owner's (see migration 0002).
SELECT payments_is_owner() AS owner
