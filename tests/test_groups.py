"""Consumer groups, every scenario with every client. What a client cannot do is skipped with the reason, so that the
results are a whole table."""

import pytest
from harness import dataset, librdkafka
from harness.groups import CLIENTS, Fenced, Joining, Member, Refused, raw
from harness.groups.team import Team
from harness.groups.traffic import Traffic
from harness.server import wait_until

COUNT = 100_000


def adapters(*wanted):
    """Parameters (client, value) for each value that `wanted` lists for a client's adapter."""
    return [pytest.param(name, value, id=f"{name}-{value}") for name, client in CLIENTS.items() for value in getattr(client, *wanted)]


each_client = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def outside(server):
    """The server's groups, as a raw connection sees them."""
    with raw.Groups(server) as groups:
        yield groups


@pytest.fixture
def team(server, topic_name, client):
    """Makes the team of a test, on a topic of its own."""
    made = []

    def make(partitions, **joining):
        server.create_topic(topic_name, partitions)
        made.append(Team(CLIENTS[client], server, topic_name, partitions, **joining))
        return made[-1]

    yield make
    for one in made:
        one.__exit__(None)


def skip_what_it_cannot(client, what):
    if reason := CLIENTS[client].cannot.get(what):
        pytest.skip(reason)


def numbered(count, partitions):
    """Small records, dealt to the partitions in turn."""
    return [dataset.Entry(i % partitions, i // partitions, dataset.FIRST_TIMESTAMP + i, None, b"%d" % i, ()) for i in range(count)]


# ------------------------------------------------------------------------------------------------------ the records


@pytest.fixture(scope="module")
def reference():
    return dataset.reference_entries(COUNT)


@pytest.mark.parametrize("client, codec", adapters("codecs"))
def test_every_record_of_every_codec_comes_through_a_group(server, topic_name, team, reference, client, codec):
    entries = CLIENTS[client].entries(reference)
    reader = team(3)
    CLIENTS[client].produce(server, topic_name, entries, codec)
    reader.join()
    reader.wait_for(COUNT)
    dataset.assert_same(reader.records(), entries, ignoring=CLIENTS[client].ignoring)


@each_client
def test_three_members_share_a_topic(server, topic_name, team, client):
    trio = team(6, commit_on_revoke=True)
    librdkafka.produce(server, topic_name, numbered(30_000, 6))
    trio.join(3)
    trio.settle()
    assert [len(m.assignment) for m in trio.members] == [2, 2, 2]
    trio.wait_for(30_000)
    assert len(trio.records()) == 30_000, "each record once"


# ----------------------------------------------------------------------------------------------------- rebalances


@pytest.mark.parametrize("client, assignor", adapters("assignors"))
def test_one_then_three_then_two_members(server, topic_name, team, client, assignor):
    group = team(6, assignor=assignor, commit_on_revoke=True)
    with Traffic(server, topic_name, 6) as traffic:
        first = group.join()
        group.settle()
        group.wait_for(200)
        events = len(first.events)
        group.join(2)
        group.settle()
        assert [len(m.assignment) for m in group.members] == [2, 2, 2]
        if assignor == "cooperative":
            taken = frozenset().union(*(e.partitions for e in first.events[events:] if e.kind == "revoked"))
            assert len(taken) == 4 and not taken & first.assignment, "what stays is not taken away in between"
        group.wait_for(len(traffic.written) + 200)
        if CLIENTS[client].loses_what_comes_at_its_end:
            traffic.rest()
            group.wait_for(len(traffic.written))
        group.leave(group.members[1])
        traffic.go_on()
        group.settle()
        assert [len(m.assignment) for m in group.members] == [3, 3]
        group.wait_for(len(traffic.written) + 200)
        traffic.stop()
    group.wait_for(len(traffic.written))
    assert group.read() == traffic.written
    assert len(group.records()) == len(traffic.written), "each committed before it went to another: none is read twice"


# ------------------------------------------------------------------------------------------------- static members


@each_client
def test_a_static_member_comes_back_and_nobody_notices(server, topic_name, team, outside, client):
    skip_what_it_cannot(client, "static")
    pair = team(4)
    for name in ("one", "two"):
        pair.join(instance=name)
    pair.settle()
    generation = outside.generation(pair.group)
    for name in ("one", "two"):  # one of them leads the group
        (old,) = [m for m in pair.members if m.joining.instance == name]
        (other,) = [m for m in pair.members if m is not old]
        events, had = list(other.events), old.assignment
        pair.leave(old)
        assert len(outside.describe(pair.group).members) == 2, "it did not leave"
        new = pair.join(instance=name)
        pair.settle()
        assert new.assignment == had
        assert other.events == events, "the other one was not asked to give up anything"
        other.poll_again()
        assert outside.generation(pair.group, generation) == generation


@each_client
def test_of_two_with_one_instance_id_the_older_is_fenced(server, topic_name, team, client):
    skip_what_it_cannot(client, "static")
    skip_what_it_cannot(client, "fenced")
    group = team(2)
    older = group.join(instance="same")
    group.settle()
    group.members.remove(older)
    younger = group.join(instance="same")
    wait_until(lambda: older.failure, "the older one is told")
    assert isinstance(older.failure, Fenced), repr(older.failure)
    older.thread.join(60)
    group.settle()
    younger.poll_again()


# --------------------------------------------------------------------------------------------------------- commits

WAYS = ["on close", "sync", "async", "offsets"]


@each_client
@pytest.mark.parametrize("way", WAYS)
def test_commit_and_resume(server, topic_name, team, outside, client, way):
    if way != "on close":
        skip_what_it_cannot(client, "commit")
    group = team(3, commit_on_revoke=way == "on close")
    entries = numbered(3_000, 3)
    librdkafka.produce(server, topic_name, entries[:1_500])
    first = group.join()
    group.wait_for(1_500)
    at = {p: (500, "") for p in group.partitions}
    if way == "offsets":
        at = {p: (100 * p[1], f"müde bei {p[1]}") for p in group.partitions}
        first.do(lambda c: c.commit(at))
    elif way != "on close":
        first.do(lambda c: c.commit(wait=way == "sync"))
    if way != "on close":
        assert outside.committed(group.group) == as_stored(client, at)
        same_offsets(first.do(lambda c: c.committed(group.partitions)), at)
        librdkafka.produce(server, topic_name, entries[1_500:])
        group.wait_for(3_000)
    group.leave(first)
    if way == "on close":
        librdkafka.produce(server, topic_name, entries[1_500:])
    assert outside.committed(group.group) == as_stored(client, at)
    second = group.join()
    expected = [e for e in entries if e.offset >= at[topic_name, e.partition][0]]
    wait_until(lambda: second.failure or len(second.records) >= len(expected), "the rest is read")
    dataset.assert_same(second.records, expected, ignoring=["timestamp"])
    if way == "offsets" and "seek" not in CLIENTS[client].cannot:
        seek_to_committed(second, at, expected)


def as_stored(client, offsets):
    return {p: (offset, CLIENTS[client].metadata(words)) for p, (offset, words) in offsets.items()}


def same_offsets(got, expected):
    """What a client says is committed; one of them does not tell the metadata."""
    assert {p: o for p, (o, _) in got.items()} == {p: o for p, (o, _) in expected.items()}
    assert all(metadata is None or metadata == expected[p][1] for p, (_, metadata) in got.items())


def seek_to_committed(member, at, expected):
    """Everything behind the commits comes once more."""
    read = len(member.records)

    def seek(client):
        for partition, (offset, _) in client.committed(at).items():
            client.seek(partition, offset)

    member.do(seek)
    wait_until(lambda: member.failure or len(member.records) >= read + len(expected), "it is read again")
    dataset.assert_same(member.records[read:], expected, ignoring=["timestamp"])


@each_client
def test_a_commit_of_an_old_generation_is_refused(server, topic_name, team, outside, client):
    skip_what_it_cannot(client, "commit")
    group = team(2)
    librdkafka.produce(server, topic_name, numbered(100, 2))
    old = group.join()
    group.wait_for(100)
    (name,) = outside.describe(group.group).members
    old.do(lambda c: c.commit({p: (10, "") for p in group.partitions}))
    group.join()
    group.settle()
    before = outside.committed(group.group)
    generation = outside.generation(group.group)
    offsets = {p: 40 for p in group.partitions}
    assert set(outside.commit(group.group, offsets, generation - 1, name).values()) == {raw.ILLEGAL_GENERATION}
    assert set(outside.commit(group.group, offsets, generation, "nobody").values()) == {raw.UNKNOWN_MEMBER_ID}
    skip_what_it_cannot(client, "rest")
    # Thrown out while it does something else, it does not know that another has its partitions.
    old.rest()
    outside.leave(group.group, name)
    wait_until(lambda: group.members[1].assignment == group.partitions, "the other one has them")
    with pytest.raises(Refused):
        old.do(lambda c: c.commit({p: (50, "") for p in group.partitions}))
    assert outside.committed(group.group) == before
    old.resting.clear()
    group.settle()


@each_client
def test_a_commit_without_membership(server, topic_name, team, outside, client):
    skip_what_it_cannot(client, "by hand")
    skip_what_it_cannot(client, "commit")
    group = team(2)
    member = group.join()
    group.settle()
    stranger = Member(CLIENTS[client], server, Joining(group.group, ())).start(by_hand=[(topic_name, 0)])
    offsets = {(topic_name, 0): (7, "by hand")}
    with pytest.raises(Refused):
        stranger.do(lambda c: c.commit(offsets))
    assert outside.committed(group.group) == {}
    group.leave(member)
    wait_until(lambda: outside.describe(group.group).state == "Empty", "the group is empty")
    stranger.do(lambda c: c.commit(offsets))
    assert outside.committed(group.group) == as_stored(client, offsets)
    same_offsets(stranger.do(lambda c: c.committed([(topic_name, 0)])), offsets)
    stranger.close()


# ---------------------------------------------------------------------------------------------- the broker dies


class Commits:
    """Commits after each poll, and remembers what was acknowledged: {partition: offset}."""

    def __init__(self):
        self.acknowledged = {}

    def __call__(self, member):
        offsets = {(member.joining.topics[0], p): (o, "") for p, o in member.offsets().items()}
        try:
            member.client.commit(offsets)
        except Refused:
            return  # the broker is gone
        self.acknowledged |= {p: o for p, (o, _) in offsets.items()}


@each_client
def test_a_broker_that_is_killed_disturbs_no_member(new_server, topic_name, kind, client):
    if (kind, client) == ("kafka", "kafkajs"):
        pytest.skip("a restarted Kafka is not the coordinator for a moment, which kafkajs takes for a rebalance")
    if (kind, client) == ("kafka", "java"):
        pytest.skip("after a restart of Kafka partitions are without a leader for a moment; Java's leader of the group sees it and joins again")
    server = new_server().start()
    server.create_topic(topic_name, 6)
    commits = [Commits() for _ in range(3)]
    with Team(CLIENTS[client], server, topic_name, 6) as trio:
        able = "commit" not in CLIENTS[client].cannot
        for commit in commits:
            trio.join(after_poll=commit if able else None)
        before = trio.settle()
        with Traffic(server, topic_name, 6) as traffic, raw.Groups(server) as outside:
            generation = outside.generation(trio.group)
            trio.wait_for(1_000)
            events = [list(m.events) for m in trio.members]
            server.kill()
            acknowledged = {p: o for c in commits for p, o in c.acknowledged.items()}
            server.start()
            committed = outside.committed_offsets(trio.group)
            assert all(committed[p] >= o for p, o in acknowledged.items()), (committed, acknowledged)
            assert bool(acknowledged) == able
            trio.wait_for(len(traffic.written) + 2_000)
            traffic.stop()
            trio.wait_for(len(traffic.written))
            assert outside.describe(trio.group) == before, "the same members with the same partitions"
            assert outside.generation(trio.group, generation) == generation
            assert [m.events for m in trio.members] == events, "no member was asked to give up anything"
            assert trio.read() == traffic.written
            assert all(outside.committed_offsets(trio.group)[p] >= o for p, o in committed.items())
    server.stop()
