#!/bin/sh
# Serves a test provider for `make run` and, once it is ready, prints what to try.
#
#   try.sh PROGRAM DIR [PORT-BASE that was asked for]
set -u
scripta=$1 dir=$2 asked=${3:-}

# The folder's own configuration tells domain and ports.
toml=$dir/scripta.toml
domain=$(sed -n 's/^domain *= *"\(.*\)" *$/\1/p' "$toml")
base=$(sed -n 's/^port_base *= *\([0-9]*\) *$/\1/p' "$toml")
base=${base:-10000}
if [ -n "$asked" ] && [ "$asked" != "$base" ]; then
  echo "$dir has port base $base already. To make it anew with $asked: rm -r $dir; make run BASE=$asked" >&2
  exit 2
fi

hints() {
  cat <<TXT

Prova (in un altro terminale) / Try (in another terminal):

  $scripta status --dir $dir

  printf 'From: mario@$domain\r\nTo: lucia@$domain\r\nSubject: Prima prova\r\n\r\nCiao.\r\n' > /tmp/prova.eml
  curl --url smtps://localhost:$((base + 465)) --cacert $dir/public/tls-ca.pem \\
       --user 'mario@$domain:segreta' --mail-from mario@$domain --mail-rcpt lucia@$domain --upload-file /tmp/prova.eml

  # le ricevute arrivano entro un secondo o due / receipts come within a second or two
  ls $dir/mail/$domain/*/new
  $scripta extract --dir $dir --mailbox mario@$domain --out prova.zip
  $scripta verify prova.zip --trust $dir/public

Ctrl-C: fine / stops.

TXT
}

# The shell becomes serve below and keeps its PID, which serve writes into the
# folder's lock: nothing is printed when another process has the folder open.
(
  until [ "$(cat "$dir/lock" 2>/dev/null)" = $$ ] && "$scripta" status --dir "$dir" 2>/dev/null | grep -q .; do
    kill -0 $$ 2>/dev/null || exit 0 # serve has ended, and said why
    sleep 0.2
  done
  hints
) &
exec "$scripta" serve --dir "$dir"
