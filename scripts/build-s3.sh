#!/usr/bin/env bash
# Builds the S3 servers that the object store is tested against beside our own, from their Go modules, into .tools/s3: MinIO,
# and versitygw, a second and independent one, which keeps objects as plain files. Three minutes; one that is there
# is left alone. Without them the tests that need them are skipped, and say so.
#   scripts/build-s3.sh [minio|versitygw]...
# Needs Go 1.25 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/.tools/s3

# Fixed, so that a build today is the build of tomorrow. MinIO's releases have dates and no versions that Go knows.
declare -A modules=(
  [minio]=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
  [versitygw]=github.com/versity/versitygw/cmd/versitygw@v1.8.0
)

servers=("$@")
[[ $# -gt 0 ]] || servers=(minio versitygw)
command -v go >/dev/null || { echo "build-s3: Go 1.25 or later is needed, and there is no go" >&2; exit 1; }
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOWORK=off GOBIN=$work
unset GOFLAGS
for server in "${servers[@]}"; do
  [[ -v modules[$server] ]] || { echo "build-s3: there is no $server, only: ${!modules[*]}" >&2; exit 2; }
  # The name of the module is the stamp: another version is built anew.
  stamp=$out/$server.module
  [[ -x $out/$server && -f $stamp && $(cat "$stamp") == "${modules[$server]}" ]] && continue
  echo "build-s3: ${modules[$server]}"
  go install -trimpath -ldflags '-s -w' "${modules[$server]}"
  mv "$work/$server" "$out/$server"
  printf '%s' "${modules[$server]}" >"$stamp"
done
