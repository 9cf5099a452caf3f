"""Java's consumer as a member of groups. One virtual machine for the whole run hosts them all (tests/java/src/GroupHost);
each consumer, admin client or producer in it is driven over a connection of its own."""

import atexit
import json
import socket
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .. import dataset, java
from . import member

PREFIX = "org.apache.kafka.clients.consumer."
ASSIGNORS = {
    "range": "RangeAssignor",
    "roundrobin": "RoundRobinAssignor",
    "sticky": "StickyAssignor",
    "cooperative": "CooperativeStickyAssignor",
}


@cache
def port():
    """The port of the host, which is started once and ends with this process."""
    # It warns without end of servers that are down; what matters comes as an answer.
    process = java.start("GroupHost", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    atexit.register(process.communicate)
    return int(process.stdout.readline())


class Driven:
    """One connection to the host, with one client behind it."""

    def __init__(self, kind, settings, **rest):
        self.socket = socket.create_connection(("127.0.0.1", port()))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.ask(kind, settings={name: str(value) for name, value in settings.items()}, **rest)

    def ask(self, operation, **rest):
        """The answer's value and its records; raises Refused with the exception's words."""
        self.socket.sendall(json.dumps({"do": operation} | rest).encode() + b"\n")
        answer, records = json.loads(self.take()), dataset.parse(self.take())
        if "error" in answer:
            refusal = member.Fenced if answer["kind"] == "FencedInstanceIdException" else member.Refused
            raise refusal(f"{answer['kind']}: {answer['error']}")
        return answer.get("value"), records

    def take(self):
        return self.stream.read(struct.unpack(">i", self.stream.read(4))[0])

    def close(self):
        self.stream.close()
        self.socket.close()


class Java(member.Client):
    name = "java"
    assignors = ("range", "roundrobin", "sticky", "cooperative")

    def __init__(self, server, joining, listener):
        self.joining, self.listener, self.kept = joining, listener, []
        settings = {
            "bootstrap.servers": server.bootstrap,
            "group.id": joining.group,
            "partition.assignment.strategy": PREFIX + ASSIGNORS[joining.assignor],
            "session.timeout.ms": joining.session_ms,
            # With its only broker away Java's client begins anew with no topics at all (KIP-899), which its leader of a
            # group takes for a change of the topics: it rebalances, whatever the broker does.
            "metadata.recovery.strategy": "none",
            "heartbeat.interval.ms": joining.heartbeat_ms,
            "metadata.max.age.ms": joining.metadata_ms,
            "reconnect.backoff.max.ms": 200,
            "max.poll.records": 5_000,
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
        }
        if joining.instance:
            settings["group.instance.id"] = joining.instance
        self.driven = Driven("consumer", settings, commit_on_revoke=joining.commit_on_revoke)

    def ask(self, operation, **rest):
        value, records = self.driven.ask(operation, **rest)
        self.kept += records
        for kind, partitions in value["events"]:
            getattr(self.listener, kind)([tuple(p) for p in partitions])
        return value

    def subscribe(self):
        self.ask("subscribe", topics=self.joining.topics)

    def assign(self, partitions):
        self.ask("assign", partitions=list(partitions))

    def poll(self):
        self.ask("poll")
        came, self.kept = self.kept, []
        return came

    def commit(self, offsets=None, wait=True):
        self.ask("commit", wait=wait, offsets=[[*p, *value] for p, value in (offsets or {}).items()])

    def committed(self, partitions):
        return {(t, p): (offset, metadata) for t, p, offset, metadata in self.ask("committed", partitions=list(partitions))["committed"]}

    def seek(self, partition, offset):
        self.ask("seek", partitions=[partition], offset=offset)

    def close(self):
        try:
            self.ask("close")
        finally:
            self.driven.close()

    @classmethod
    def produce(cls, server, topic, entries, codec):
        driven = Driven("producer", {"bootstrap.servers": server.bootstrap, "compression.type": codec})
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "records.bin"
            dataset.write(path, entries)
            driven.ask("produce", topic=topic, file=str(path))
        driven.close()
