"""Two hundred members join and leave one group, some without a word, for --storm-seconds; then it must settle.

All the while each partition has at most one owner in a generation, each generation one leader, no member that was told
of a generation is forgotten, and no acknowledged commit is lost.
"""

import asyncio
import random

import pytest
from harness.groups import raw
from harness.groups.raw_member import DONE, Book, RawMember, until

MEMBERS, PARTITIONS, SEED = 200, 128, 4_711
ALL = list(range(PARTITIONS))
CHURN_SECONDS = 0.1  # between one member's leave and another's
CRASH_SECONDS = 15  # between members that go without a word; each holds up a rebalance until its session ends


class Storm:
    def __init__(self, server, topic):
        self.server, self.book = server, Book(topic, topic, PARTITIONS)
        self.random = random.Random(SEED)
        self.members, self.tasks, self.left, self.crashed = [], set(), 0, 0

    def begin(self, **settings):
        """One more member."""
        member = RawMember(self.server, self.book, self.random.random(), commit_seconds=0.2, **settings)
        task = asyncio.ensure_future(member.live())
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        self.members.append(member)
        return member, task

    def ended(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.book.problems.append(f"a member failed: {task.exception()!r}")

    def one_leaves(self):
        member = self.members.pop(self.random.randrange(len(self.members)))
        member.leaving = True
        self.left += 1

    async def one_crashes(self):
        """A member with the shortest session ends without leaving, as soon as it has partitions or knows it has none."""
        member, task = self.begin(session_ms=6_000)
        self.members.remove(member)
        await until(lambda: member.generation >= 0)
        task.cancel()
        self.crashed += 1

    async def rage(self, seconds):
        for _ in range(MEMBERS):
            self.begin()
        loop = asyncio.get_running_loop()
        over, next_crash = loop.time() + seconds, loop.time() + CRASH_SECONDS
        while loop.time() < over and not self.book.problems:
            self.one_leaves()
            self.begin()
            if loop.time() >= next_crash:
                self.tasks.add(crash := asyncio.ensure_future(self.one_crashes()))
                crash.add_done_callback(self.ended)
                next_crash = loop.time() + CRASH_SECONDS
            await asyncio.sleep(self.random.uniform(0, 2 * CHURN_SECONDS))

    def is_settled(self):
        """Every member that is left is in the last generation, and together they own everything."""
        owned = sorted(p for m in self.members for p in m.owned)
        return len(self.tasks) == len(self.members) and {m.generation for m in self.members} == {self.book.generation} and owned == ALL

    async def run(self, seconds):
        """True if the group came to rest, and its members went on to commit."""
        await self.rage(seconds)
        settled = await until(self.is_settled, 120)
        commits = self.book.acknowledged
        went_on = await until(lambda: self.book.acknowledged > commits + PARTITIONS)
        for task in list(self.tasks):
            task.cancel()
        return settled and went_on


@pytest.fixture
def storm_seconds(request):
    return request.config.getoption("--storm-seconds")


def test_a_storm_of_rebalances_settles(server, topic_name, storm_seconds):
    server.create_topic(topic_name, PARTITIONS)
    with raw.Groups(server) as groups:
        groups.find_coordinator(topic_name)
    storm = Storm(server, topic_name)
    settled = asyncio.run(storm.run(storm_seconds))
    book, names = storm.book, {m.id for m in storm.members}
    print(f"\n{book.rebalances} rebalances, {storm.left} left, {storm.crashed} crashed, {book.acknowledged} commits acknowledged")
    assert not book.problems, "\n".join(book.problems[:20])
    assert settled, "the group does not come to rest"
    with raw.Groups(server) as groups:
        described = groups.describe(topic_name)
        assert (described.state, set(described.members)) == ("Stable", names) and len(names) == MEMBERS
        for partition, offset in groups.committed_offsets(topic_name).items():
            book.check_committed(partition[1], offset, book.highest(partition[1], DONE))
    assert not book.problems, "\n".join(book.problems[:20])
    assert storm.left > storm_seconds and book.rebalances > 5 and book.acknowledged > PARTITIONS
