#!/bin/sh
# Prints what to try with the test provider that `make run` serves.
dir=$1 domain=$2 base=$3
cat <<TXT

Prova (in un altro terminale) / Try (in another terminal):

  bin/scripta status --dir $dir

  printf 'From: mario@$domain\r\nTo: lucia@$domain\r\nSubject: Prima prova\r\n\r\nCiao.\r\n' > /tmp/prova.eml
  curl --url smtps://localhost:$((base + 465)) --cacert $dir/public/tls-ca.pem \\
       --user 'mario@$domain:segreta' --mail-from mario@$domain --mail-rcpt lucia@$domain --upload-file /tmp/prova.eml

  ls $dir/mail/$domain/*/new
  bin/scripta extract --dir $dir --mailbox mario@$domain --out prova.zip
  bin/scripta verify prova.zip --trust $dir/public

TXT
