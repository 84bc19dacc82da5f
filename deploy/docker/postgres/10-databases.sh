#!/bin/sh
# Roles and databases of the example, made once when the data folder is empty. Each role has a password of its own.
set -eu

make_role() { # ROLE PASSWORD
  psql -v ON_ERROR_STOP=1 -v role="$1" -v password="$2" --username "$POSTGRES_USER" <<-'SQL'
	CREATE ROLE :"role" LOGIN PASSWORD :'password';
	SQL
}

make_database() { # DATABASE OWNER
  psql -v ON_ERROR_STOP=1 -v name="$1" -v owner="$2" -v sync=strangler_sync --username "$POSTGRES_USER" <<-'SQL'
	CREATE DATABASE :"name" OWNER :"owner" TEMPLATE template0 ENCODING 'UTF8';
	REVOKE CONNECT, TEMPORARY ON DATABASE :"name" FROM PUBLIC;
	GRANT CONNECT, TEMPORARY ON DATABASE :"name" TO :"owner";
	SQL
}

make_role strangler "$CONTROL_PASSWORD"
make_role monolith "$MONOLITH_PASSWORD"
make_role auth "$AUTH_PASSWORD"
make_role payments "$PAYMENTS_PASSWORD"
make_role strangler_sync "$SYNC_PASSWORD"

make_database control strangler
for name in monolith auth payments; do
  make_database "$name" "$name"
  psql -v ON_ERROR_STOP=1 -v name="$name" --username "$POSTGRES_USER" <<-'SQL'
	GRANT CONNECT, TEMPORARY, CREATE ON DATABASE :"name" TO strangler_sync;
	GRANT :"name" TO strangler_sync WITH INHERIT TRUE;
	SQL
done
