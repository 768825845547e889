#!/bin/sh
# Run once by the database's image when its volume is empty: the read-only role. The migrations grant it its tables.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$ANALYST_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role analyst login nosuperuser nocreatedb nocreaterole password :'password';
alter role analyst set statement_timeout = '30s';
alter role analyst set default_transaction_read_only = on;
SQL
