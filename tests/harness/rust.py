"""Builds and runs the Rust client in tests/rdkafka."""

import os
import subprocess
from functools import cache

from .server import ROOT


@cache
def binary():
    """Compiles the client once a run; librdkafka itself takes a minute or two, the first time."""
    target = ROOT / ".tools/rdkafka"
    manifest = ROOT / "tests/rdkafka/Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", str(manifest), "--target-dir", str(target)]
    subprocess.run(command, check=True, env=os.environ | {"CARGO_TERM_COLOR": "never"})
    return target / "release/kafscale-test-rdkafka"


def run(*arguments, timeout=300):
    command = [str(binary()), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
