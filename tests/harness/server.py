"""Starts a server on free loopback ports, waits until it serves, and stops it, also when a test fails.

Two kinds behind one interface: `Kafscale`, the binary under test, and `ApacheKafka`, the oracle that the same suites must
pass against. A test ends only the process that it started, by its id.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from . import wire

ROOT = Path(__file__).resolve().parents[2]
JAVA_LIB = ROOT / ".tools/java/lib"
HOST = "127.0.0.1"


def wait_until(condition, what, seconds=60, pause=0.02):
    """Polls until `condition()` is true and returns its value; fails with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not so: {what}")
        time.sleep(pause)


def free_port():
    """A port nobody listens on, below the range the kernel takes client ports from: while a server is down between two
    lives, a client's own source port must not land on it (TCP would connect it to itself)."""
    while True:
        port = random.SystemRandom().randrange(11_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class Server:
    """A process that speaks Kafka on `address`. Subclasses say how it is started."""

    def __init__(self, directory, name):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.port = free_port()
        self.address = (HOST, self.port)
        self.bootstrap = f"{HOST}:{self.port}"
        self.log = self.directory / f"{name}.log"
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return os.environ.copy()

    def start(self, wait=True, prefix=()):
        """Starts the process; `prefix` is put before its command (strace and the like)."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=self.environment()
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=120):
        wait_until(self.is_ready, f"{self.bootstrap} serves ({self.log})", seconds)

    def is_ready(self):
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"the server ended with code {code} before it was ready:\n{self.log_tail()}")
        try:
            with wire.Connection(self.address, timeout=10) as connection:
                return connection.api_versions()[0] == wire.NONE and connection.metadata([]) == {}
        except (ConnectionError, TimeoutError):
            return False

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def terminate(self, seconds=60):
        """SIGTERM, as a service manager does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        """SIGKILL, at this very moment."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Whatever state the process is in, it is gone afterwards."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def resident_bytes(self):
        return status_bytes(self.process.pid, "VmRSS")

    def connect(self, timeout=60):
        return wire.Connection(self.address, timeout)

    def create_topic(self, name, partitions=1, **configs):
        """Creates a topic and waits until every partition can be written."""
        settings = [(key.replace("_", "."), str(value)) for key, value in configs.items()]
        with self.connect() as connection:
            error, message = connection.create_topics({name: partitions}, configs=settings)[name]
            assert error == wire.NONE, f"topic {name} was not created: error {error}: {message}"
            self.wait_writable(connection, name, partitions)
        return name

    def wait_writable(self, connection, name, partitions):
        def is_writable(partition):
            # Kafka names a leader in Metadata a moment before that leader takes requests.
            return connection.list_offset(name, partition, wire.LATEST)[0] == wire.NONE

        for partition in range(partitions):
            wait_until(lambda: is_writable(partition), f"partition {partition} of {name} is served")


def status_bytes(pid, field):
    """A size from /proc/PID/status, such as VmRSS or VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise LookupError(f"no {field} for process {pid}")


class Kafscale(Server):
    kind = "kafscale"

    def __init__(self, directory, *arguments):
        super().__init__(directory, self.kind)
        self.http_port = free_port()
        self.listen = self.bootstrap
        self.arguments = [str(a) for a in arguments]

    @staticmethod
    def binary():
        return Path(os.environ.get("KAFSCALE_BIN", ROOT / "target/release/kafscale")).resolve()

    def command(self):
        ports = ["--listen", self.listen, "--http", f"{HOST}:{self.http_port}"]
        return [str(self.binary()), "broker", *self.place(), *ports, *self.arguments]

    def place(self):
        """Where its data is."""
        return ["--data-dir", str(self.data)]

    def environment(self):
        # The tests say what they want by flags; a developer's own settings must not leak in.
        return {key: value for key, value in os.environ.items() if not key.startswith("KAFSCALE_")}

    def is_ready(self):
        return super().is_ready() and self.http("/readyz") is not None

    def http(self, path):
        """The body of an HTTP page, or None unless it is answered with 200."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.http_port}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def metric(self, name):
        """The sum of a metric over its labels, or None when there is no such metric."""
        values = [
            float(line.rsplit(None, 1)[1])
            for line in (self.http("/metrics") or "").splitlines()
            if line.startswith((name + " ", name + "{"))
        ]
        return sum(values) if values else None


class ApacheKafka(Server):
    kind = "kafka"

    def __init__(self, directory, *overrides):
        super().__init__(directory, self.kind)
        self.controller_port = free_port()
        self.overrides = overrides
        self.properties = self.directory / "server.properties"

    def command(self):
        return ["java", "-Xmx1g", *self.java_options(), "kafka.Kafka", str(self.properties)]

    def java_options(self):
        logging = ROOT / "tests/java/log4j2.properties"
        return [f"-Dlog4j2.configurationFile={logging}", "-cp", f"{JAVA_LIB}/*"]

    def start(self, wait=True, prefix=()):
        if not self.properties.exists():
            self.format()
        return super().start(wait, prefix)

    def format(self):
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers={HOST}:{self.controller_port}",
            f"listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self.controller_port}",
            "controller.listener.names=CONTROLLER",
            f"log.dirs={self.data}",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            *self.overrides,
        ]
        self.properties.write_text("\n".join(lines) + "\n")
        arguments = ["format", "--standalone", "--cluster-id", "S2Fmc2NhbGUtdGVzdHM_zQ", "--config", str(self.properties)]
        command = ["java", *self.java_options(), "kafka.tools.StorageTool", *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory)


class Scratch:
    """A directory for servers' data, removed at the end unless the test failed or KEEP_TEST_DATA is set."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="kafscale-test-"))

    def remove(self):
        if "KEEP_TEST_DATA" not in os.environ:
            shutil.rmtree(self.path, ignore_errors=True)


class Sampler:
    """The largest resident size of a process while it is sampled, every 20 ms, on a thread of its own."""

    def __init__(self, server):
        self.server, self.highest, self.done = server, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.done.wait(0.02):
            try:
                self.highest = max(self.highest, self.server.resident_bytes())
            except (OSError, LookupError):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
