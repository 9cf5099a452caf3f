"""What the binary says of itself, and the probe that asks a broker how it is."""

import subprocess

import pytest
from harness.server import HOST, Kafscale, free_port

pytestmark = pytest.mark.ours("its own commands")


def run(*arguments, **environment):
    command = [str(Kafscale.binary()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_version_names_build_target_and_formats():
    short, long = run("-V"), run("--version")
    assert short.returncode == long.returncode == 0
    first, target, formats = long.stdout.splitlines()
    assert short.stdout.strip() == first and first.startswith("kafscale 0.")
    assert target.split()[0] == "target" and "linux" in target
    assert all(word in formats for word in ("data directory", "journal", "entries", "snapshots", "objects"))


def test_the_probe_tells_a_broker_that_serves_from_one_that_does_not(scratch, topic_name):
    server = Kafscale(scratch / topic_name)
    try:
        server.start()
        asked = run("health", "--http", f"{HOST}:{server.http_port}")
        assert (asked.returncode, asked.stdout) == (0, "ready\n")
        # As in a container: by the broker's own variable, which says every address.
        asked = run("health", KAFSCALE_METRICS_ADDR=f"0.0.0.0:{server.http_port}")
        assert asked.returncode == 0, asked.stderr
    finally:
        server.stop()
    asked = run("health", "--http", f"{HOST}:{free_port()}")
    assert asked.returncode == 1 and "no answer from" in asked.stderr
