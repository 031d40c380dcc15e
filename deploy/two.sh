#!/bin/sh
# Makes two test providers that know each other, for the section "Two providers" of
# docs/operating.md, which says what each step is for. Serves nothing.
#
#   two.sh PROGRAM FOLDER [PORT-BASE]
set -eu
scripta=$1 two=$2 base=${3:-21000}
alfa=$two/alfa beta=$two/beta keeper=$two/keeper
if [ -e "$two" ]; then
  echo "$two exists already. To make it anew: rm -r $two" >&2
  exit 2
fi
mkdir -p "$keeper"

"$scripta" init --dir "$alfa" --domain pec.alfa.example --provider "Alfa di prova" --account mario:segreta --port-base "$base" > /dev/null
"$scripta" init --dir "$beta" --domain pec.beta.example --provider "Beta di prova" --account lucia:segreta --port-base $((base + 1000)) > /dev/null

# The directory: the record of each, signed by a keeper.
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 365 -subj "/C=IT/O=Indice di prova/CN=Indice dei gestori" \
  -addext keyUsage=critical,digitalSignature,keyCertSign -keyout "$keeper/keeper.key" -out "$keeper/igpec.pem" 2> /dev/null
for p in "$alfa" "$beta"; do
  "$scripta" index export --dir "$p" --plain --out "$p.ldif" 2> "$p.log" || { cat "$p.log" >&2; exit 1; }
  cat "$p.ldif" && echo
done > "$keeper/igpec.ldif"
openssl cms -sign -binary -nodetach -outform DER -md sha256 -signer "$keeper/igpec.pem" -inkey "$keeper/keeper.key" \
  -in "$keeper/igpec.ldif" -out "$keeper/igpec.ldif.p7m"
signer=$(openssl x509 -in "$keeper/igpec.pem" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f)

# set_value FILE SECTION KEY VALUE writes one value of a configuration.
set_value() {
  awk -v section="[$2]" -v key="$3" -v value="$4" '
    /^\[/ { here = $0 == section }
    here && $1 == key && $2 == "=" { $0 = key " = " value }
    { print }' "$1" > "$1.new"
  cat "$1.new" > "$1" && rm "$1.new"
}
know() { # know FOLDER OTHER-FOLDER OTHER-DOMAIN OTHER-PORT
  cp "$keeper/igpec.ldif.p7m" "$keeper/igpec.pem" "$1/keys/"
  cp "$2/public/ca.pem" "$1/keys/trusted-ca.pem"
  set_value "$1/scripta.toml" index source '"keys/igpec.ldif.p7m"'
  set_value "$1/scripta.toml" index signers "[\"$signer\"]"
  set_value "$1/scripta.toml" index roots '"keys/igpec.pem"'
  set_value "$1/scripta.toml" incoming trusted_ca '"keys/trusted-ca.pem"'
  set_value "$1/scripta.toml" incoming authenticate false # they have no DNS
  set_value "$1/scripta.toml" relay routes "[\"$3=127.0.0.1:$4\"]"
  set_value "$1/scripta.toml" scan clamd "\"127.0.0.1:$((base + 310))\""
}
know "$alfa" "$beta" pec.beta.example $((base + 1025))
know "$beta" "$alfa" pec.alfa.example $((base + 25))

# A clamd of their own, which knows the EICAR test file only.
mkdir -p "$keeper/signatures"
# In two pieces, so that no scanner of source files finds it.
eicar='X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD'"-ANTIVIRUS-TEST-FILE!"'$H+H*'
printf '%s\r\n' "$eicar" > "$keeper/eicar.txt"
printf '%s' "$eicar" | od -An -v -tx1 | tr -d ' \n' | sed 's/^/Eicar-Test:0:*:/; s/$/\n/' > "$keeper/signatures/eicar.ndb"
cat > "$keeper/clamd.conf" <<CONF
Foreground yes
DatabaseDirectory $(cd "$keeper" && pwd)/signatures
TCPSocket $((base + 310))
TCPAddr 127.0.0.1
StreamMaxLength 64M
MaxFileSize 64M
MaxScanSize 64M
CONF
rm "$alfa.ldif" "$alfa.log" "$beta.ldif" "$beta.log"

echo "Made $alfa and $beta. Serve each in a terminal of its own:
  clamd --config-file $keeper/clamd.conf      # or write clamd = \"\" in both scripta.toml
  $scripta serve --dir $alfa
  $scripta serve --dir $beta"
