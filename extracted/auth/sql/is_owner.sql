-- Whether the account rows here are the owner's (see migration 0003).
SELECT auth_is_owner() AS owner
