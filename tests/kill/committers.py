"""What commits offsets beside the producers, through any number of deaths of the server: the members of a group, one of
them restless, and committers that belong to none. One event loop on a thread of its own runs them all.

What must hold is in `Book` (harness/groups/raw_member.py): what was acknowledged is committed, offsets never go back, a
generation that a member was told of exists, and each partition has one owner in it.
"""

import asyncio
import threading

from harness import wire
from harness.groups import raw
from harness.groups.raw_member import DONE, REFUSED, UNKNOWN, Attempt, Book, RawMember, Wire
from harness.server import wait_until

STEADY = 3
# Kafka's shortest session: what a restless member may have left behind at a kill holds up the group that long.
RESTLESS_SESSION_MS = 6_000


class SimpleCommitter:
    """Commits to a group that has no members, one offset higher each time, for every partition."""

    def __init__(self, server, book):
        self.server, self.book = server, book
        self.next, self.committing, self.idle = 0, True, False

    async def live(self):
        while True:
            connection = None
            try:
                connection = await Wire.open(self.server.address)
                while True:
                    await self.step(connection)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)
            finally:
                if connection:
                    connection.close()

    async def step(self, connection):
        self.idle = not self.committing
        if self.idle:
            await asyncio.sleep(0.02)
            return
        attempts = {p: Attempt(self.next) for p in range(self.book.partitions)}
        self.next += 1
        for partition, attempt in attempts.items():
            self.book.attempts[partition].append(attempt)
        body = raw.commit_body(self.book.group, {(self.book.topic, p): a.offset for p, a in attempts.items()})
        errors = await connection.request(raw.OFFSET_COMMIT, 7, body, raw.read_commit)
        for (_, partition), error in errors.items():
            attempts[partition].outcome = DONE if error == wire.NONE else UNKNOWN if error in raw.RETRY else REFUSED
        self.book.acknowledged += all(a.outcome == DONE for a in attempts.values())


class Committers(threading.Thread):
    """A group of steady members and a restless one that leaves and comes again, and two simple committers."""

    def __init__(self, server, topic, partitions, seed):
        super().__init__(name="committers", daemon=True)
        self.server, self.seed, self.failure = server, seed, None
        self.book = Book("killed-group", topic, partitions)
        self.simple = [SimpleCommitter(server, Book(f"killed-simple-{i}", topic, partitions)) for i in range(2)]
        self.steady = [RawMember(server, self.book, seed + i, heartbeat_seconds=0.1) for i in range(STEADY)]
        self.restless, self.over, self.resting = None, False, True
        self.outside = raw.Groups(server)
        self.before = {}

    @property
    def books(self):
        return [self.book, *(simple.book for simple in self.simple)]

    @property
    def acknowledged(self):
        """Of the one that is furthest behind."""
        return min(book.acknowledged for book in self.books)

    # ------------------------------------------------------------------------------------------ on the event loop

    def run(self):
        try:
            asyncio.run(self.live())
        except Exception as error:  # noqa: BLE001: the test is told, whatever it is
            self.failure = error

    async def live(self):
        works = [*(one.live() for one in [*self.steady, *self.simple]), self.come_and_go()]
        tasks = {asyncio.ensure_future(work) for work in works}
        while not self.over:
            done, _ = await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        for task in tasks:
            task.cancel()

    async def come_and_go(self):
        while True:
            while self.resting:
                await asyncio.sleep(0.02)
            self.restless = RawMember(self.server, self.book, self.seed, RESTLESS_SESSION_MS, heartbeat_seconds=0.1)
            life = asyncio.ensure_future(self.restless.live())
            while self.restless.generation < 0 or self.restless.random.random() < 0.9:
                await asyncio.sleep(0.05)
            self.restless.leaving = True
            await life
            self.restless = None

    # ------------------------------------------------------------------------------------- from the test's thread

    def resume(self):
        self.resting = False
        for one in [*self.steady, *self.simple]:
            one.committing, one.idle = True, False

    def pause(self):
        """Returns when the group has settled without the restless one and nobody has a commit without an answer."""
        self.resting = True
        for one in [*self.steady, *self.simple]:
            one.committing = False

        def rests():
            one_generation = {m.generation for m in self.steady} == {self.book.generation}
            owned = sorted(p for m in self.steady for p in m.owned)
            idle = all(one.idle for one in [*self.steady, *self.simple])
            return self.failure or (self.restless is None and one_generation and idle and owned == list(range(self.book.partitions)))

        wait_until(rests, "the committers rest", 120)
        assert self.failure is None, repr(self.failure)

    def problems(self):
        """What is wrong with what is committed now, and with what they were told. Only while they rest."""
        for book in self.books:
            committed = self.outside.committed_offsets(book.group)
            for partition in range(book.partitions):
                now = committed.get((book.topic, partition), -1)
                book.check_committed(partition, now, book.highest(partition, DONE))
                if now < self.before.get((book.group, partition), -1):
                    book.problems.append(f"{book.group} {partition}: went back from {self.before[book.group, partition]} to {now}")
                self.before[book.group, partition] = now
        return [f"{book.group}: {problem}" for book in self.books for problem in [*book.problems, *self.strangers(book)]]

    def strangers(self, book):
        """The members as they are described must be the steady ones, in the generation that they were told."""
        described = self.outside.describe(book.group)
        expected = {m.id for m in self.steady} if book is self.book else set()
        if set(described.members) != expected:
            return [f"its members are {sorted(described.members)}, not {sorted(expected)}"]
        if expected and self.outside.heartbeat(book.group, book.generation, min(expected)) != raw.NONE:
            return [f"generation {book.generation} is not the group's"]
        return []

    def stop(self):
        self.over = True
        self.join(60)
        self.outside.close()
