#!/usr/bin/env bash
# Builds Trillian's two servers, with PostgreSQL's storage only, into a folder, and
# puts beside them the schema that their database needs (trillian.sql):
#
#   deploy/cluster/build.sh /usr/local/bin
set -euo pipefail
into=$(cd "${1:?folder for the programs}" && pwd)
for server in trillian_log_server trillian_log_signer; do
	CGO_ENABLED=0 GOBIN="$into" go install -tags postgresql,etcd -trimpath "github.com/google/trillian/cmd/$server@v1.8.0"
done
module=$(go mod download -json "github.com/google/trillian@v1.8.0" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
install -m 0644 "$module/storage/postgresql/schema/storage.sql" "$into/trillian.sql"
