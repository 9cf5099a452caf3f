"""Members of a group made of raw requests, hundreds of them on one event loop, and one book of all that they were told.

A member joins, deals out the partitions if it is the leader, sends heartbeats, and commits for each partition that it
owns one offset higher than the last, beginning with what it is told is committed. So in every partition the offsets
rise, whoever commits. `Book` holds what must never be: each entry of `problems` is a violation.
"""

import asyncio
import contextlib
import itertools
import random
import struct

from .. import wire
from . import raw

REFUSED, UNKNOWN, DONE = "refused", "unknown", "done"


class Attempt:
    """One offset sent to be committed, and what became of it."""

    def __init__(self, offset):
        self.offset, self.outcome = offset, UNKNOWN


class Book:
    """What all members of one group were told."""

    def __init__(self, group, topic, partitions):
        self.group, self.topic, self.partitions = group, topic, partitions
        self.attempts = {p: [] for p in range(partitions)}  # in the order they were sent
        # In the form of the consumer protocol: Kafka looks into it, and a group hangs whose members say anything else.
        self.subscription = wire.i16(0) + wire.array([wire.string(topic)]) + wire.blob(b"")
        self.leaders, self.dealt, self.generation = {}, {}, 0
        self.acknowledged, self.rebalances, self.problems = 0, 0, []

    def joined(self, answer):
        """A member was told of a generation."""
        self.generation = max(self.generation, answer.generation)
        if self.leaders.setdefault(answer.generation, answer.leader) != answer.leader:
            self.problems.append(f"generation {answer.generation} has two leaders: {self.leaders[answer.generation]}, {answer.leader}")

    def deal(self, answer):
        """The leader's assignment: {member: bytes}. The same for the same members, so that a leader may send it again."""
        names = sorted(name for name, _, _ in answer.members)
        owned = {name: [] for name in names}
        for partition, name in zip(range(self.partitions), itertools.cycle(names)):
            owned[name].append(partition)
        dealt = {name: self.encode(partitions) for name, partitions in owned.items()}
        if self.dealt.setdefault(answer.generation, dealt) != dealt:
            self.problems.append(f"generation {answer.generation} was led twice, with different members")
        self.rebalances += 1
        return dealt

    def encode(self, partitions):
        listed = [wire.string(self.topic) + wire.array([wire.i32(p) for p in partitions])] if partitions else []
        return wire.i16(0) + wire.array(listed) + wire.blob(b"")

    def assigned(self, generation, member, assignment):
        """A member was given its partitions: just those that the leader dealt, so that each has one owner."""
        dealt = self.dealt.get(generation)
        if dealt is None or dealt.get(member, b"") != assignment:
            self.problems.append(f"{member} got {assignment} in generation {generation}, dealt was {dealt and dealt.get(member)}")

    def highest(self, partition, outcome):
        return max((a.offset for a in self.attempts[partition] if a.outcome == outcome), default=-1)

    def check_committed(self, partition, offset, acknowledged):
        """`offset` is committed, where `acknowledged` was the highest known before it was asked for."""
        sent = {a.offset for a in self.attempts[partition] if a.outcome != REFUSED} | {-1}
        if offset < acknowledged:
            self.problems.append(f"partition {partition}: {acknowledged} was acknowledged, {offset} is committed")
        if offset not in sent:
            self.problems.append(f"partition {partition}: {offset} is committed, which nobody sent, or all were refused")


class Wire:
    """A connection on the event loop: one request at a time."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.numbers = reader, writer, itertools.count(1)

    @classmethod
    async def open(cls, address):
        return cls(*await asyncio.open_connection(*address))

    async def request(self, api, version, body, read):
        number = next(self.numbers)
        self.writer.write(wire.request_frame(api, version, number, body))
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        reader = wire.Reader(await self.reader.readexactly(size))
        answered = reader.i32()
        assert answered == number, f"answer to request {answered} where {number} was due"
        return read(reader)

    def close(self):
        self.writer.close()


class RawMember:
    def __init__(self, server, book, seed, session_ms=30_000, heartbeat_seconds=0.3, commit_seconds=0.05):
        self.server, self.book, self.random = server, book, random.Random(seed)
        self.session_ms, self.turns = session_ms, {self.heartbeat: heartbeat_seconds, self.commit: commit_seconds}
        self.id, self.generation, self.owned = "", -1, {}
        self.told = False  # that it is a member: from then on the group must know it
        self.committing, self.idle = True, False
        self.leaving = False
        self.connection = None

    async def live(self):
        """Until it has left; through any number of deaths of the server."""
        while True:
            try:
                self.connection = await Wire.open(self.server.address)
                await self.be_a_member()
                return
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)
            finally:
                if self.connection:
                    self.connection.close()

    def crash(self):
        """The connection is gone, and nobody says why."""
        self.connection.writer.transport.abort()

    async def be_a_member(self):
        while not self.leaving:
            if self.generation < 0:
                await self.join()
            else:
                await self.stay()
        await self.leave()

    async def join(self):
        body = raw.join_body(self.book.group, self.id, [("range", self.book.subscription)], self.session_ms)
        answer = await self.request(raw.JOIN, 5, body, raw.read_join)
        if answer.error == raw.MEMBER_ID_REQUIRED:
            self.id = answer.member
        elif answer.error == raw.NONE:
            self.id, self.told = answer.member, True
            self.book.joined(answer)
            await self.sync(answer)
        else:
            self.start_again(answer.error, "JoinGroup")

    async def sync(self, joined):
        dealt = self.book.deal(joined) if joined.leader == self.id else None
        body = raw.sync_body(self.book.group, joined.generation, self.id, dealt)
        error, assignment = await self.request(raw.SYNC, 3, body, raw.read_sync)
        if error == raw.NONE:
            self.book.assigned(joined.generation, self.id, assignment)
            await self.begin(joined.generation, sorted(p for _, p in raw.partitions_of(assignment)))
        elif error != raw.REBALANCE_IN_PROGRESS:
            self.start_again(error, "SyncGroup")

    async def begin(self, generation, partitions):
        """Learns where to go on."""
        known = {p: self.book.highest(p, DONE) for p in partitions}
        body = raw.fetch_offsets_body(self.book.group, [(self.book.topic, p) for p in partitions])
        error, found = await self.request(raw.OFFSET_FETCH, 5, body, raw.read_fetch_offsets)
        if error == raw.NONE:
            self.generation, self.owned = generation, {p: found[self.book.topic, p][0] for p in partitions}
            for partition, offset in self.owned.items():
                self.book.check_committed(partition, offset, known[partition])

    async def stay(self):
        """Heartbeats and commits, each in its turn, until another generation is made."""
        loop = asyncio.get_running_loop()
        due = {work: loop.time() + seconds for work, seconds in self.turns.items()}
        while self.generation >= 0 and not self.leaving:
            work = min(due, key=due.get)
            await asyncio.sleep(due[work] - loop.time())
            due[work] = loop.time() + self.turns[work]
            await work()

    async def heartbeat(self):
        body = raw.heartbeat_body(self.book.group, self.generation, self.id)
        self.take(await self.request(raw.HEARTBEAT, 3, body, raw.read_heartbeat), "Heartbeat")

    async def commit(self):
        self.idle = not self.committing
        if self.idle or not self.owned:
            return
        attempts = {p: Attempt(offset + 1) for p, offset in self.owned.items()}
        for partition, attempt in attempts.items():
            self.book.attempts[partition].append(attempt)
        # Whatever becomes of it, this offset is not sent again.
        self.owned = {p: a.offset for p, a in attempts.items()}
        offsets = {(self.book.topic, p): a.offset for p, a in attempts.items()}
        body = raw.commit_body(self.book.group, offsets, self.generation, self.id)
        errors = await self.request(raw.OFFSET_COMMIT, 7, body, raw.read_commit)
        for partition, attempt in attempts.items():
            error = errors[self.book.topic, partition]
            attempt.outcome = DONE if error == raw.NONE else UNKNOWN if error in raw.RETRY else REFUSED
        self.book.acknowledged += sum(a.outcome == DONE for a in attempts.values())
        self.take(next(iter(errors.values())), "OffsetCommit")

    async def leave(self):
        if not self.id:
            return
        # Told again if the answer does not come: a ghost would hold up the others until its session ends.
        await self.request(raw.LEAVE, 3, raw.leave_body(self.book.group, [(self.id, None)]), raw.read_leave)

    async def request(self, api, version, body, read):
        answer = await self.connection.request(api, version, body, read)
        error = answer if isinstance(answer, int) else answer[0] if isinstance(answer, tuple) else next(iter(answer.values()))
        if error in raw.RETRY:
            await asyncio.sleep(0.02)
        return answer

    def take(self, error, what):
        """What an error says of the membership."""
        if error == raw.REBALANCE_IN_PROGRESS:
            self.generation = -1
        elif error not in (raw.NONE, *raw.RETRY):
            self.start_again(error, what)

    def start_again(self, error, what):
        if error in raw.RETRY:
            return
        # Its session cannot have ended, and it did not leave: the group has forgotten what it told.
        if self.told:
            self.book.problems.append(f"{what} of {self.id}, told of generation {self.generation}, was answered with error {error}")
        self.id, self.generation, self.told = "", -1, False


async def until(condition, seconds=60):
    """Waits on the event loop until `condition()` is true."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
            return True
    return False
