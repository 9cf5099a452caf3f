#!/usr/bin/env bash
# Runs one target under libFuzzer, guided by coverage:  fuzz/libfuzzer/run.sh TARGET [SECONDS]
# Works with the stable toolchain: the instrumentation is a pass of LLVM's, and needs no sanitizer. What it finds lands in
# fuzz/artifacts; inputs that reach new code are kept in fuzz/libfuzzer/corpus, which is not part of the repository.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?which target}
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# A target triple of its own keeps the flags from build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$flags cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" ../artifacts
# Not those that are known to break it.
find "../corpus/$target" -type f ! -name 'pending-*' -exec cp -n {} "corpus/$target/" \;
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" "corpus/$target" \
  -artifact_prefix=../artifacts/ -max_total_time="${2:-60}" -timeout=20 -max_len=65536 -len_control=0
