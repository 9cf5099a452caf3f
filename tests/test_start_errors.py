"""What a person is told when the broker cannot start: the thing, and the way out; and exit code 1."""

import os
import re
import socket
import subprocess

import pytest
from harness import wire
from harness.server import HOST, Kafscale

pytestmark = pytest.mark.ours("its own messages")


@pytest.fixture
def own(scratch, topic_name):
    server = Kafscale(scratch / topic_name)
    yield server
    server.stop()


def refusal(server, **run):
    """Starts a broker that must not start; returns what it said last, on one line."""
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, env=server.environment() | run.get("env", {}))
    assert done.returncode == 1, f"exit code {done.returncode}:\n{done.stderr}"
    return done.stderr.strip().splitlines()[-1]


def write_something(server):
    server.start()
    server.create_topic("t")
    with server.connect() as raw:
        for _ in range(20):
            raw.produce("t", 0, wire.record_batch([wire.Record(None, b"v" * 100)]))


@pytest.mark.parametrize("which", ["port", "http_port"])
def test_a_port_that_is_in_use(own, which):
    with socket.socket() as other:
        other.bind((HOST, getattr(own, which)))
        other.listen()
        said = refusal(own)
    assert f"{HOST}:{getattr(own, which)}" in said and "in use" in said
    assert {"port": "--listen", "http_port": "--http"}[which] in said, "it names the flag to change"


def test_a_directory_that_cannot_be_written(own):
    # Even root cannot make a directory inside a file.
    own.data = own.directory / "file" / "data"
    own.data.parent.write_text("not a directory")
    assert str(own.data.parent) in refusal(own)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_directory_without_permission(own):
    own.data.mkdir(mode=0o500)
    said = refusal(own)
    assert str(own.data) in said and "ermission" in said


def test_a_directory_that_another_broker_uses(own, scratch, topic_name):
    write_something(own)
    second = Kafscale(scratch / f"{topic_name}-second")
    second.data = own.data
    said = refusal(second)
    assert str(own.data) in said and re.search(r"in use|another", said)
    with own.connect() as raw:
        assert raw.produce("t", 0, wire.record_batch([wire.Record(None, b"v")])).error == wire.NONE, "the first goes on"


def journal_files(server):
    files = sorted(p for p in (server.data / "journal").iterdir() if p.name[0].isdigit())
    assert files, list((server.data / "journal").iterdir())
    return files


def test_a_damaged_journal(own):
    write_something(own)
    own.terminate()
    file = journal_files(own)[0]
    content = bytearray(file.read_bytes())
    # In the middle: a torn end is what a crash leaves, and is mended.
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    said = refusal(own)
    assert str(file) in said or file.name in said
    assert file.read_bytes() == content, "nothing is changed"


def test_a_torn_end_of_the_journal_is_mended(own):
    write_something(own)
    own.kill()
    file = journal_files(own)[-1]
    with open(file, "ab") as out:
        out.write(b"\x17" * 5)
    own.start()
    with own.connect() as raw:
        assert raw.list_offset("t", 0, wire.LATEST)[2] == 20


def test_a_journal_of_a_newer_format(own):
    write_something(own)
    own.terminate()
    file = journal_files(own)[0]
    content = bytearray(file.read_bytes())
    # A byte of the journal's random id may be the highest already.
    marked = [at for at in range(64) if content[at] != 0xFF and newer_at(own, file, content, at)]
    assert marked, "no byte of the header, raised, is told as a newer format"


def newer_at(server, file, content, at):
    """Whether the broker, met by a header whose byte at `at` is 255, speaks of a newer release."""
    bent = bytearray(content)
    bent[at] = 0xFF
    file.write_bytes(bent)
    said = refusal(server)
    file.write_bytes(content)
    return "newer" in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--listen", "nonsense"], ["nonsense", "listen"]),
        (["--listen", "[::]:9092"], ["[::]:9092", "every address", "--advertise HOST:PORT"]),
        (["--listen", f"A={HOST}:1,B=0.0.0.0:9094"], ["0.0.0.0:9094", "--advertise B=HOST:PORT"]),
        (["--listen", f"A={HOST}:1,B={HOST}:2", "--advertise", "C=h:1"], ["--advertise", "C", "A, B"]),
        (["--listen", f"A={HOST}:1,B={HOST}:2", "--advertise", "h:1"], ["--advertise", "one listener", "NAME=HOST:PORT"]),
        (["--memory", "12 apples"], ["12 apples", "memory"]),
        (["--http", f"{HOST}:99999"], ["99999", "http"]),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense(own, arguments, words):
    own.arguments = arguments
    command = [str(own.binary()), "broker", "--data-dir", str(own.data), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=own.environment())
    assert done.returncode == 1 and all(word in done.stderr for word in words), done.stderr


def test_an_unknown_variable_is_named_with_the_nearest(own):
    said = refusal(own, env={"KAFSCALE_CACHE_BITES": "1"})
    assert "KAFSCALE_CACHE_BITES" in said and "KAFSCALE_CACHE_BYTES" in said


def test_variables_that_kubernetes_injects_are_ignored(own):
    injected = {"KAFSCALE_PORT": "tcp://10.0.0.1:9092", "KAFSCALE_SERVICE_PORT": "9092", "KAFSCALE_SERVICE_HOST": "10.0.0.1"}
    own.environment = lambda: Kafscale.environment(own) | injected
    own.start()
