#!/usr/bin/env bash
# Hunts for inputs that break a decoder, SECONDS for each of them (60 unless given). What it finds is kept in
# fuzz/artifacts, with the command that repeats it; exits with 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release --quiet --locked --package kafscale-fuzz -- run --seconds "${1:-60}"
