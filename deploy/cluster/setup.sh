#!/usr/bin/env bash
# Makes the database of a log's cluster, or leaves it as it is: run it as a
# superuser of PostgreSQL, for example
#
#   sudo -u postgres deploy/cluster/setup.sh /usr/local/bin/trillian.sql [DATABASE]
#
# with the schema that build.sh put beside the servers.
# psql's variables (PGHOST, PGPORT, …) say where. Roles: trillian owns Trillian's
# tables and is the servers'; scripta may use the table of leases and nothing
# else. Neither has a password afterwards: see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
schema=${1:?schema of the servers, which build.sh puts beside them}
[[ -r $schema ]] || { echo "$0: $schema cannot be read: run build.sh first" >&2; exit 2; }
db=${2:-trillian}
[[ $db =~ ^[a-z][a-z0-9_]*$ ]] || { echo "$0: $db is no name for a database" >&2; exit 2; }

in_db() { psql -X -q -v ON_ERROR_STOP=1 -d "$1" "${@:2}"; }

for role in trillian scripta; do
	[[ $(in_db postgres -Atc "SELECT 1 FROM pg_roles WHERE rolname = '$role'") ]] ||
		in_db postgres -c "CREATE ROLE $role LOGIN"
done
[[ $(in_db postgres -Atc "SELECT 1 FROM pg_database WHERE datname = '$db'") ]] ||
	in_db postgres -c "CREATE DATABASE $db OWNER trillian ENCODING 'UTF8' TEMPLATE template0"

# Trillian's schema is one transaction: it is there whole or not at all.
[[ $(in_db "$db" -Atc "SELECT to_regclass('public.treehead')") ]] ||
	{ echo 'SET ROLE trillian;' && cat "$schema"; } | in_db "$db" -1 -f - >/dev/null

{ echo 'SET ROLE trillian; SET client_min_messages = warning;' && cat "$here/lease.sql"; } | in_db "$db" -1 -f -
echo "database $db is ready"
