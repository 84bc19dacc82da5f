-- Meet the fence where this database is not the owner's (see migration 0002).
SELECT payments_require_owner()
