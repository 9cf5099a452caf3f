#!/usr/bin/env bash
# Makes a release in dist/: a tarball with the statically linked binary and what it takes to install it, and its checksum.
#
# The C library is linked in, so that the binary runs on any Linux of this processor, in a container of nothing else too.
# Needs the static form of the C library, which Debian's libc6-dev brings. Give GIT_COMMIT when the sources are no checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
  cargo build --release --locked --package kafscale-cli --target "$target"
binary=${CARGO_TARGET_DIR:-target}/$target/release/kafscale
ldd "$binary" 2>&1 | grep -qE 'statically linked|not a dynamic executable' || { echo "$binary is not static" >&2; exit 1; }

version=$("$binary" -V | cut -d' ' -f2)
name=kafscale-$version-$(uname -m)-linux
rm -rf "dist/$name" && mkdir -p "dist/$name/data"
cp "$binary" packaging/kafscale.service packaging/kafscale.env packaging/Containerfile LICENSE README.md CHANGELOG.md "dist/$name/"
cp -r docs "dist/$name/docs"

# The same sources give the same bytes: names in order, nobody's ids, the time of the commit.
when=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" --mode=u+rwX,go+rX-w --directory=dist "$name" |
  gzip --no-name --best >"dist/$name.tar.gz"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
rm -rf "dist/$name"
printf '%s\n' "dist/$name.tar.gz ($(du -h "dist/$name.tar.gz" | cut -f1)), with its checksum in dist/$name.tar.gz.sha256"
