#!/usr/bin/env bash
# Puts etcd into .tools/etcd-3.4, -3.5 and -3.6, for tests against the releases that users run. 3.4 is Debian's package,
# unpacked and not installed (so that nothing starts it); 3.5 and 3.6 are built from their Go modules, which takes half a
# minute each. What is there already is left alone.
#   build-etcd.sh [MINOR…]          (default: 3.4 3.5 3.6)
# A release that cannot be had here (not Debian, no Go) is named and left out.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/.tools
declare -A releases=([3.5]=v3.5.35 [3.6]=v3.6.16)

say() { printf 'build-etcd: %s\n' "$*"; }

unpack() {
  local out=$1
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then say "no Debian, no etcd 3.4"; return; fi
  local sudo download=(apt-get download -qq -o APT::Sandbox::User=root etcd-server)
  sudo=$([[ $(id -u) == 0 ]] || echo sudo)
  # A machine that has installed nothing yet has no lists of packages.
  (cd "$work" && { "${download[@]}" 2>/dev/null || { $sudo apt-get update -qq && "${download[@]}"; }; }) ||
    { say "etcd 3.4 could not be downloaded"; return; }
  dpkg -x "$work"/etcd-server_*.deb "$work/deb"
  mkdir -p "$out"
  mv "$work/deb/usr/bin/etcd" "$out/etcd"
}

# The main package of etcd is in the repository's root module, which replaces its siblings by folders and so cannot be
# installed; it only calls etcdmain, which is in the server module. So this wrapper has a main of its own.
build() {
  local out=$1 version=$2
  command -v go >/dev/null || { say "no Go, no etcd $version"; return; }
  mkdir -p "$work/$version" "$out"
  cat >"$work/$version/main.go" <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
  (
    cd "$work/$version"
    export CGO_ENABLED=0 GOWORK=off
    unset GOFLAGS
    go mod init etcd-wrapper
    go get "go.etcd.io/etcd/server/v3@$version"
    go build -mod=mod -trimpath -ldflags '-s -w' -o "$out/etcd.new" .
  ) >"$work/log" 2>&1 || { cat "$work/log"; say "etcd $version could not be built"; return; }
  mv "$out/etcd.new" "$out/etcd"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(($#)) || set -- 3.4 3.5 3.6
for minor in "$@"; do
  out=$tools/etcd-$minor
  [[ -x $out/etcd ]] && continue
  say "etcd $minor into .tools/etcd-$minor"
  case $minor in
    3.4) unpack "$out" ;;
    3.5 | 3.6) build "$out" "${releases[$minor]}" ;;
    *) say "unknown release $minor: 3.4, 3.5 and 3.6 are known"; exit 1 ;;
  esac
done
