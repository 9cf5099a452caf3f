"""kcat as a member of groups: a process that is told nothing once it runs. It commits by itself, every five seconds, when
partitions are taken from it and when it ends."""

import queue
import re
import signal
import subprocess
import threading
import time

from .. import kcat
from . import member

ASSIGNORS = {"cooperative": "cooperative-sticky"}


class Kcat(member.Client):
    name = "kcat"
    assignors = ("range", "roundrobin", "cooperative")
    cannot = {"commit": "kcat commits by itself, and only what it has read"}
    loses_what_comes_at_its_end = True  # a record that it has taken, but not printed when the signal came
    # A line carries no time of its own, and one header for all.
    ignoring = ("timestamp", "headers")

    def __init__(self, server, joining, listener):
        self.joining, self.listener = joining, listener
        self.lines, self.words = queue.SimpleQueue(), queue.SimpleQueue()
        self.command = ["kcat", "-b", server.bootstrap, "-u", "-E", "-f", kcat.FORMAT]
        settings = {
            "partition.assignment.strategy": ASSIGNORS.get(joining.assignor, joining.assignor),
            "session.timeout.ms": joining.session_ms,
            "heartbeat.interval.ms": joining.heartbeat_ms,
            "topic.metadata.refresh.interval.ms": joining.metadata_ms,
            "reconnect.backoff.max.ms": 200,
            "auto.offset.reset": "earliest",
        }
        if joining.instance:
            settings["group.instance.id"] = joining.instance
        for name, value in settings.items():
            self.command += ["-X", f"{name}={value}"]

    def subscribe(self):
        command = [*self.command, "-G", self.joining.group, *self.joining.topics]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        pipes = [(self.process.stdout, self.lines), (self.process.stderr, self.words)]
        self.readers = [threading.Thread(target=pump, args=pipe, daemon=True) for pipe in pipes]
        for reader in self.readers:
            reader.start()

    def poll(self):
        time.sleep(0.02)
        code = self.process.poll()
        self.hear()
        entries = self.printed()
        if code is not None:
            raise member.Refused(f"kcat ended with {code}")
        return entries

    def printed(self):
        return kcat.parse(b"".join(drain(self.lines)))

    def hear(self):
        """What kcat says beside the records: rebalances, and why it ends."""
        for words in drain(self.words):
            text = words.decode()
            if found := re.match(r"% Group \S+ rebalanced.*?(assign|revoke).*: (.*)", text):
                partitions = [(t, int(p)) for t, p in re.findall(r"(\S+) \[(\d+)\]", found[2])]
                (self.listener.assigned if found[1] == "assign" else self.listener.revoked)(partitions)
            elif "fenced" in text.lower():
                raise member.Fenced(text)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        for reader in self.readers:
            reader.join()
        self.hear()
        self.listener.records += self.printed()

    @classmethod
    def produce(cls, server, topic, entries, codec):
        for partition in sorted({e.partition for e in entries}):
            lines = b"".join(b"%s\t%s\n" % (e.key, e.value) for e in entries if e.partition == partition)
            kcat.run(server, "-P", "-t", topic, "-p", partition, "-K", "\t", "-z", codec, "-X", "enable.idempotence=true", stdin=lines)

    @classmethod
    def entries(cls, everything):
        """Lines have keys and values, of printable characters."""
        counts, kept = {}, []
        for e in everything:
            offset = counts[e.partition] = counts.get(e.partition, -1) + 1
            kept.append(e._replace(offset=offset, key=b"key-%d" % len(kept), value=(e.value or b"").hex().encode() or b"-"))
        return kept


def pump(pipe, lines):
    for line in pipe:
        lines.put(line)


def drain(lines):
    while not lines.empty():
        yield lines.get()
