"""Runs kcat, and reads what it prints."""

import subprocess

from .dataset import Entry

# What kcat prints for each record: numbers, then key and value by their lengths, then the headers.
FORMAT = "%p %o %T %K %S|%k|%s|%h\n"


def run(server, *arguments, stdin=None):
    """Runs kcat to its end, which must be a good one; returns its standard output."""
    command = ["kcat", "-b", server.bootstrap, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=180)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def parse(output):
    """Records from the output in FORMAT."""
    entries, at = [], 0
    while at < len(output):
        head = output.index(b"|", at)
        partition, offset, timestamp, key_size, value_size = map(int, output[at:head].split())
        key, at = sized(output, head + 1, key_size)
        value, at = sized(output, at + 1, value_size)
        end = output.index(b"\n", at + 1)
        entries.append(Entry(partition, offset, timestamp, key, value, headers(output[at + 1 : end])))
        at = end + 1
    return entries


def sized(output, at, size):
    return (None, at) if size < 0 else (output[at : at + size], at + size)


def headers(text):
    pairs = [pair.split(b"=", 1) for pair in text.split(b",") if pair]
    return tuple((name.decode(), None if value == b"NULL" else value) for name, value in pairs)
