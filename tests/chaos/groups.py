"""A consumer group in the chaos: members that subscribe, read, and commit what they read. What each was told goes into a
`GroupHistory`, whose rules are:

1. A committed offset that is told is one that somebody sent, and not before one that was acknowledged earlier: what a
   group committed does not go back, whoever coordinates it.
2. Nothing is left out: a member that is given a partition begins at the committed offset, and meets each offset from
   there on.

Off unless asked for (`--chaos-groups`): a coordinator is only right when all clients agree on it.
"""

import time
from dataclasses import dataclass

from confluent_kafka import OFFSET_INVALID, KafkaException, TopicPartition
from harness import librdkafka

from .checker import Highest
from .clients import IMPATIENT, Client

# The shortest session that is allowed: a member that died holds its partitions up no longer.
SETTINGS = {key: value for key, value in IMPATIENT.items() if key.startswith(("socket", "reconnect"))} | {
    "group_id": "chaos-group",
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 500,
    "auto_offset_reset": "earliest",
    "partition_assignment_strategy": "range",
}


@dataclass
class Commit:
    partition: int
    offset: int
    sent: float
    answered: float | None = None  # None: refused, or never answered


@dataclass
class Told:
    """A committed offset that was told; -1: none."""

    partition: int
    offset: int
    asked: float
    answered: float


class GroupHistory:
    def __init__(self):
        self.commits, self.told, self.problems = [], [], []

    def met(self, member, partition, due, offset):
        if offset != due:
            self.problems.append(f"{member}: offset {offset} of partition {partition} where {due} was due")
        return offset + 1

    def check(self):
        problems, partitions = list(self.problems), {told.partition for told in self.told}
        acknowledged = {p: Highest((c.answered, c.offset) for c in self.commits if c.partition == p and c.answered) for p in partitions}
        sent = {p: sorted((c.offset, c.sent) for c in self.commits if c.partition == p) for p in partitions}
        seen = {p: Highest((t.answered, t.offset) for t in self.told if t.partition == p) for p in partitions}
        for told in self.told:
            for known, words in ((acknowledged, "committed"), (seen, "told")):
                least = known[told.partition].before(told.asked)
                if told.offset < least:
                    problems.append(f"offset {told.offset} of partition {told.partition} was told when {least} had been {words}")
            if told.offset >= 0 and not any(offset == told.offset and when < told.answered for offset, when in sent[told.partition]):
                problems.append(f"offset {told.offset} of partition {told.partition} was told, which nobody had committed")
        return problems


class Member(Client):
    """Its `next` are the partitions that it owns."""

    def __init__(self, cluster, topic, number, history):
        super().__init__(f"member-{number}")
        self.cluster, self.topic, self.history = cluster, topic, history
        self.next, self.said = {}, []

    def live(self):
        self.reader = librdkafka.consumer(self.cluster, **SETTINGS)
        self.reader.subscribe([self.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        while not self.over.is_set():
            for message in self.reader.consume(500, timeout=0.5):
                self.take(message)
            self.commit()
        self.reader.close()

    def assigned(self, reader, partitions):
        """Asks for what is committed by itself, and begins there: librdkafka's own question is not seen."""
        while not self.over.is_set():
            asked = time.monotonic()
            try:
                committed = reader.committed([TopicPartition(self.topic, p.partition) for p in partitions], timeout=5)
            except KafkaException as error:
                self.said.append(error)
                continue
            break
        else:
            return
        for one in committed:
            offset = -1 if one.offset == OFFSET_INVALID else one.offset
            self.history.told.append(Told(one.partition, offset, asked, time.monotonic()))
            self.next[one.partition] = one.offset = max(offset, 0)
        reader.assign(committed)

    def revoked(self, _, partitions):
        self.commit()
        self.lost(_, partitions)

    def lost(self, _, partitions):
        for one in partitions:
            self.next.pop(one.partition, None)

    def take(self, message):
        if message.error():
            self.said.append(message.error())
        elif message.partition() in self.next:
            self.next[message.partition()] = self.history.met(self.name, message.partition(), self.next[message.partition()], message.offset())
            self.progress += 1

    def commit(self):
        owned = [TopicPartition(self.topic, partition, offset) for partition, offset in self.next.items() if offset > 0]
        commits = {one.partition: Commit(one.partition, one.offset, time.monotonic()) for one in owned}
        if not owned:
            return
        self.history.commits += commits.values()
        try:
            for one in self.reader.commit(offsets=owned, asynchronous=False):
                if one.error is None:
                    commits[one.partition].answered = time.monotonic()
        except KafkaException as error:
            self.said.append(error)


class Group:
    """Three members, as one client among the others."""

    name = "group"

    def __init__(self, cluster, topic, partitions):
        self.cluster, self.topic, self.partitions = cluster, topic, partitions
        self.history = GroupHistory()
        self.members = [Member(cluster, topic, number, self.history) for number in range(3)]

    @property
    def progress(self):
        return sum(member.progress for member in self.members)

    @property
    def failure(self):
        return next((member.failure for member in self.members if member.failure), None)

    @property
    def problems(self):
        """When the members have stopped: also what is committed now."""
        asker = librdkafka.consumer(self.cluster, **SETTINGS)
        asked = time.monotonic()
        committed = asker.committed([TopicPartition(self.topic, p) for p in range(self.partitions)], timeout=30)
        asker.close()
        told = [Told(one.partition, -1 if one.offset == OFFSET_INVALID else one.offset, asked, time.monotonic()) for one in committed]
        self.history.told += told
        return self.history.check()

    def start(self):
        for member in self.members:
            member.start()

    def resume(self):
        pass

    def stop(self):
        for member in self.members:
            member.over.set()
        for member in self.members:
            member.join(60)

    def __str__(self):
        answered = sum(commit.answered is not None for commit in self.history.commits)
        said = sorted({str(error.args[0] if error.args else error)[:120] for member in self.members for error in member.said})
        return f"group: {self.progress} records, {len(self.history.commits)} commits, {answered} acknowledged, {len(self.history.told)} told; {said}"
