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
    # A start gives up what does not answer, after a stated time.
    r"the journal in etcd at .* cannot be used",
    r"could not be listed",
    r"does not answer|did not answer|not be reached|unreachable",
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
        self.watched = set()
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
        while not self.over.wait(0.1):
            for broker in list(self.watched):
                code = broker.process.poll()
                if code is None or broker not in self.watched:
                    continue
                self.note_end(broker, code)
                time.sleep(0.3)
                broker.start(wait=False)

    def note_end(self, broker, code):
        tail = broker.log_tail(6)
        self.exits.append((time.monotonic(), broker.number, code, tail.splitlines()[-1] if tail else ""))
        if self.tally:
            self.tally.phases[-1].exits += 1
        if code < 0 or not any(re.search(pattern, tail) for pattern in EXPECTED_ENDS):
            self.problems.append(f"broker {broker.number} ended by itself with code {code}:\n{tail}")

    def take_out(self, broker):
        self.watched.discard(broker)

    def put_back(self, broker):
        """Starts it, if it does not run, and has it watched again."""
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

    def cut(self, what, broker, mode):
        """`what` is etcd or s3; all its members, as seen by this broker."""
        for i in range(len(self.etcds)) if what == "etcd" else [None]:
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
