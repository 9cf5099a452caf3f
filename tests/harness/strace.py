"""System calls of a running server, read off strace, and the order in which they must come.

A call has a beginning and an end; strace shows both when calls of several threads overlap. "A before B" means that A had
returned when B was entered.
"""

import contextlib
import re
import signal
import subprocess
from typing import NamedTuple

from .server import wait_until

CALLS = "openat,write,pwrite64,pwritev,pwritev2,writev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,ftruncate,sendto,sendmsg,recvfrom,read,readv"

LINE = re.compile(r"^(\d+)\s+(.*)$")
UNFINISHED = re.compile(r"^(\w+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
WHOLE = re.compile(r"^(\w+)\((.*)$")
FIRST_DESCRIPTOR = re.compile(r"^\d+<((?:->|[^<>])*)>")


class Call(NamedTuple):
    begin: int  # line numbers of the trace
    end: int
    name: str
    target: str  # path or socket behind the first descriptor, or ""

    def is_write(self):
        return self.name in ("write", "pwrite64", "pwritev", "pwritev2", "writev", "sendto", "sendmsg")

    def is_sync(self):
        return self.name in ("fsync", "fdatasync")


def parse(text):
    calls, open_calls = [], {}
    for number, line in enumerate(text.splitlines()):
        match = LINE.match(line)
        if not match:
            continue
        thread, rest = match.groups()
        if started := UNFINISHED.match(rest):
            open_calls[thread] = (number, *started.groups())
        elif RESUMED.match(rest):
            if thread in open_calls:
                begin, name, arguments = open_calls.pop(thread)
                calls.append(Call(begin, number, name, descriptor(arguments)))
        elif whole := WHOLE.match(rest):
            calls.append(Call(number, number, whole[1], descriptor(whole[2])))
    return sorted(calls)


def descriptor(arguments):
    match = FIRST_DESCRIPTOR.match(arguments)
    return match[1] if match else ""


@contextlib.contextmanager
def attached(server, out):
    """Traces all threads of the server while the block runs; the trace is in `out` afterwards."""
    command = ["strace", "-f", "-yy", "-s", "0", "-e", f"trace={CALLS}", "-p", str(server.process.pid), "-o", str(out)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = tracer.stderr.readline()
        assert "attached" in line, line + tracer.stderr.read()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)
        wait_until(lambda: "TracerPid:\t0" in status(server.process.pid), "strace has let go")


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return file.read()


def check_chain(calls, steps):
    """None if there is a call for each step (a name and a predicate), each begun after the one before had ended; else
    the name of the first step that is missing there."""
    at = -1
    for name, wanted in steps:
        found = next((call for call in calls if call.begin > at and wanted(call)), None)
        if found is None:
            return name
        at = found.end
    return None
