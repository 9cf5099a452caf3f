"""Three brokers, their etcd and their bucket, with proxies between, and a supervisor that starts a broker again that has
ended by itself, as Kubernetes or systemd would."""

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from harness.cluster import Broker, etcd_members
from harness.proxy import Proxies
from harness.s3 import S3Server
from harness.server import free_port, wait_until

BROKERS = 3
# Longer than the lease of a session (6 s) and the look of the others at it.
LEASE = 6

# Why a broker may end by itself. Anything else is a finding.
EXPECTED_ENDS = [
    r"ended this broker's session",
]


class World:
    def __init__(self, directory, prefix, members=1, arguments=()):
        self.directory = Path(directory)
        self.tally = None
        self.exits, self.problems = [], []
        self.etcds, self.brokers = [], []
        self.proxies, self.s3 = Proxies(), S3Server()
        self.etcds = etcd_members(self.directory, members)
        for number in range(BROKERS):
            ways = [self.proxies.route(f"etcd-{number}-{i}", member.address, free_port()) for i, member in enumerate(self.etcds)]
            etcd = SimpleNamespace(address=",".join(ways))
            s3 = SimpleNamespace(address=self.proxies.route(f"s3-{number}", self.s3.address, free_port()))
            self.brokers.append(Broker(self.directory / f"broker-{number}", number, etcd, s3, prefix, *arguments))
        # Those that the supervisor looks after; who takes one out starts it again and puts it back.
        self.watched, self.lock = set(), threading.Lock()
        self.over = threading.Event()
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)

    @property
    def bootstrap(self):
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self):
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait_ready()
        self.watched |= set(self.brokers)
        self.supervisor.start()
        return self

    def create_topic(self, name, partitions):
        self.brokers[0].create_topic(name, partitions)
        for broker in self.brokers[1:]:
            with broker.connect() as connection:
                broker.wait_writable(connection, name, partitions)

    def supervise(self):
        while not self.over.wait(0.2):
            for broker in self.brokers:
                with self.lock:
                    if broker in self.watched and broker.process.poll() is not None:
                        self.note_end(broker, broker.process.returncode)
                        broker.start(wait=False)

    def note_end(self, broker, code):
        tail = broker.log_tail(6)
        words = next((line for line in reversed(tail.splitlines()) if line.startswith("kafscale: ")), tail)
        self.exits.append((time.monotonic(), broker.number, code, words))
        if self.tally:
            self.tally.phases[-1].exits += 1
        if code < 0 or not any(re.search(pattern, words) for pattern in EXPECTED_ENDS):
            self.problems.append(f"broker {broker.number} ended by itself with code {code}:\n{tail}")

    def take_out(self, broker):
        with self.lock:
            self.watched.discard(broker)

    def put_back(self, broker):
        """Starts it, if it does not run, and has it watched again."""
        with self.lock:
            if broker.process.poll() is not None:
                broker.start(wait=False)
            self.watched.add(broker)

    def wait_ready(self, seconds=60):
        """Also through restarts by the supervisor."""

        def is_ready(broker):
            try:
                return broker.is_ready()
            except RuntimeError:
                return False

        for broker in self.brokers:
            wait_until(lambda: is_ready(broker), f"broker {broker.number} is ready ({broker.log})", seconds, 0.1)

    def cut(self, what, broker, mode, members=None):
        """`what` is etcd or s3, as seen by this broker: all its members, or so many, another one for each broker."""
        numbers = [(broker.number + i) % len(self.etcds) for i in range(members or len(self.etcds))]
        for i in numbers if what == "etcd" else [None]:
            self.proxies.set(f"{what}-{broker.number}" + ("" if i is None else f"-{i}"), mode)

    def logged_problems(self):
        """What no log may say."""
        pattern = re.compile(r"panicked at|went back in time|hash(es)? differ")
        found = [(b.number, line) for b in self.brokers for line in b.log_text().splitlines() if pattern.search(line)]
        return [f"broker {number} logged: {line}" for number, line in found]

    def stop(self):
        self.over.set()
        if self.supervisor.is_alive():
            self.supervisor.join(30)
        for server in [*self.brokers, *self.etcds, self.s3, self.proxies]:
            server.stop()
