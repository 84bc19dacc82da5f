-- Meet the fence where this database is not the owner's (see migration 0003).
SELECT auth_require_owner()
