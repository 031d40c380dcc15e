#!/bin/sh
# Makes the signatures of this folder with OpenSSL 3: what peers send, and what
# must be refused. Keys are thrown away. Run it here, then run the tests.
set -e
cat > x.cnf <<'C'
[req]
distinguished_name = dn
prompt = no
[dn]
CN = unused
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
keyUsage = critical,digitalSignature
extendedKeyUsage = emailProtection
subjectAltName = email:posta-certificata@pec.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[web]
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
C
q='-config x.cnf -nodes -sha256'
openssl req -x509 -newkey rsa:2048 $q -keyout root.key -out root.pem -days 36500 -subj '/O=Scripta test, no legal value/CN=Root' -extensions ca
issue() { # name key-args section
  openssl req -new -newkey $2 $q -keyout $1.key -out $1.csr -subj "/O=Scripta test, no legal value/CN=$1"
  openssl x509 -req -in $1.csr -CA root.pem -CAkey root.key -CAcreateserial -days 36000 -sha256 -extfile x.cnf -extensions $3 -out $1.pem
}
issue rsa rsa:2048 leaf
issue weak rsa:1024 leaf
issue web rsa:2048 web
issue ec 'ec -pkeyopt ec_paramgen_curve:P-256' leaf
printf 'Subject: prova\r\n\r\nTesto di prova.\r\n' > content
sign() { out=$1; shift; openssl cms -sign -binary -in content -outform DER -out $out "$@"; }
rsa='-signer rsa.pem -inkey rsa.key'
sign rsa.p7s $rsa
sign stream.p7m -stream -nodetach $rsa
sign cades.p7s -cades $rsa
sign cades.p7m -cades -nodetach $rsa
sign sha512.p7s -md sha512 $rsa
sign sha1.p7s -md sha1 $rsa
sign sha1cades.p7s -md sha1 -cades $rsa
sign pss.p7s $rsa -keyopt rsa_padding_mode:pss
sign psssha384.p7s -md sha384 $rsa -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:20
sign ec.p7s -signer ec.pem -inkey ec.key
sign ecsha512.p7s -md sha512 -signer ec.pem -inkey ec.key
sign noattr.p7s -noattr $rsa
sign keyid.p7s -keyid $rsa
sign nocerts.p7s -nocerts $rsa
sign two.p7s -signer rsa.pem -inkey rsa.key -signer ec.pem -inkey ec.key
sign weak.p7s -signer weak.pem -inkey weak.key
sign web.p7s -signer web.pem -inkey web.key
sign contenttype.p7s -econtent_type 1.2.3.4 $rsa
openssl cms -encrypt -binary -in content -outform DER -out encrypted.p7m rsa.pem
rm -f *.key *.csr *.cnf *.srl ec.pem rsa.pem weak.pem web.pem
