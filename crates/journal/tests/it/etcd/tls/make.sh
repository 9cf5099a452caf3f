#!/usr/bin/env bash
# Makes the certificates beside it, for tests of TLS to etcd: an issuer, a server called etcd.example, a client, and an
# issuer that nobody knows. They are valid for a hundred years, and guard nothing.
set -euo pipefail
cd "$(dirname "$0")"
days=36500

issuer() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout "$1.key" -out "$1.pem"
}

issue() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days $days -out "$1.pem" -extfile <(
    printf 'basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$2"
  )
  rm "$1.csr"
}

issuer ca
issuer stranger
issue server etcd.example
issue client broker
rm ca.key stranger.key ./*.srl 2>/dev/null || true
