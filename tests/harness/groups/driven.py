"""Clients in other languages as members of groups. One process for each language hosts them all; every consumer, admin
client or producer in it is driven over a connection of its own, in the words that tests/java/src/GroupHost tells."""

import atexit
import json
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from .. import dataset
from . import member


class Host:
    """A process that prints its port and ends with its standard input; started when it is first needed."""

    def __init__(self, command):
        """`command` makes the list of words that start it."""
        self.command, self.process, self.lock = command, None, threading.Lock()

    def port(self):
        with self.lock:
            return self.number if self.process else self.start()

    def start(self):
        # Clients warn without end of servers that are down; what matters comes as an answer.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command(), text=True, **pipes)
        atexit.register(self.end)
        self.number = int(self.process.stdout.readline())
        return self.number

    def end(self):
        """The process is killed, and all that is in it: nobody says good-bye to a server."""
        if self.process:
            self.process.kill()
            self.process.communicate()


class Driven:
    """One connection to a host, with one client behind it."""

    def __init__(self, host, kind, settings, **rest):
        self.socket = socket.create_connection(("127.0.0.1", host.port()))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.ask(kind, settings={name: str(value) for name, value in settings.items()}, **rest)

    def ask(self, operation, **rest):
        """The answer's value and its records; raises Refused with the client's words."""
        self.socket.sendall(json.dumps({"do": operation} | rest).encode() + b"\n")
        answer, records = json.loads(self.take()), dataset.parse(self.take())
        if "error" in answer:
            fenced = "fenced" in answer["kind"].lower().replace("_", "")
            raise (member.Fenced if fenced else member.Refused)(f"{answer['kind']}: {answer['error']}")
        return answer.get("value"), records

    def take(self):
        return self.stream.read(struct.unpack(">i", self.stream.read(4))[0])

    def close(self):
        self.stream.close()
        self.socket.close()


class Remote(member.Client):
    """A client in a host. An adapter says which host, and its settings in the client's own words."""

    host = None

    def __init__(self, server, joining, listener):
        self.joining, self.listener, self.kept = joining, listener, []
        settings = self.consumer_settings(server, joining)
        self.driven = Driven(self.host_of(joining), "consumer", settings, commit_on_revoke=joining.commit_on_revoke)

    def host_of(self, joining):
        return self.host

    @classmethod
    def consumer_settings(cls, server, joining):
        raise NotImplementedError

    @classmethod
    def producer_settings(cls, server, codec):
        raise NotImplementedError

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
        found = self.ask("committed", partitions=list(partitions))["committed"]
        return {(topic, partition): (offset, metadata) for topic, partition, offset, metadata in found}

    def seek(self, partition, offset):
        self.ask("seek", partitions=[partition], offset=offset)

    def close(self):
        try:
            self.ask("close")
            self.listener.records += self.kept
        finally:
            self.driven.close()

    @classmethod
    def produce(cls, server, topic, entries, codec):
        driven = Driven(cls.host, "producer", cls.producer_settings(server, codec))
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "records.bin"
            dataset.write(path, entries)
            driven.ask("produce", topic=topic, file=str(path))
        driven.close()


class Admin:
    """The admin client in a host; an adapter adds what more its client can do."""

    host = None

    def __init__(self, server):
        self.driven = Driven(self.host, "admin", self.settings(server))

    @staticmethod
    def settings(server):
        return {"bootstrap.servers": server.bootstrap}

    def ask(self, operation, name="", **rest):
        return self.driven.ask(operation, name=name, **rest)[0]

    def create_topic(self, name, partitions):
        self.ask("create_topic", name, partitions=partitions)

    def add_partitions(self, name, total):
        self.ask("add_partitions", name, partitions=total)

    def delete_topic(self, name):
        self.ask("delete_topic", name)

    def list_groups(self):
        return set(self.ask("list_groups"))

    def describe_group(self, name):
        found = self.ask("describe_group", name)
        return found["state"], {member: {tuple(p) for p in owned} for member, _, owned in found["members"]}

    def delete_group(self, name):
        self.ask("delete_group", name)

    def close(self):
        self.driven.close()


# What not every admin client can do.


class ListsOffsets:
    def list_offsets(self, group):
        return {(topic, p): offset for topic, p, offset in self.ask("list_offsets", group)}


class AltersOffsets:
    def alter_offsets(self, group, offsets):
        self.ask("alter_offsets", group, offsets=[[*p, offset] for p, offset in offsets.items()])


class DeletesOffsets:
    def delete_offsets(self, group, partitions):
        self.ask("delete_offsets", group, partitions=list(partitions))
