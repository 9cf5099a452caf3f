"""What admin clients do with topics that groups read, with groups, and with their offsets."""

import pytest
from harness import dataset, librdkafka, wire
from harness.groups import CLIENTS, Refused
from harness.groups.admins import ADMINS
from harness.groups.team import Team
from harness.server import wait_until

each_client = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture(scope="module")
def server(new_server):
    """One of its own: a client that looks at a topic just after its deletion must not make it again."""
    return new_server("--auto-create-topics", "false").start()


@pytest.fixture
def admin(server, client):
    """The client's admin client."""
    if client not in ADMINS:
        pytest.skip(f"{client} has no admin client")
    admin = ADMINS[client](server)
    yield admin
    admin.close()


def needs(admin, operation):
    if not hasattr(admin, operation):
        pytest.skip(f"its admin client cannot {operation.replace('_', ' ')}")


def numbered(count, partitions):
    """Small records, dealt to the partitions in turn."""
    return [dataset.Entry(i % partitions, i // partitions, dataset.FIRST_TIMESTAMP, None, b"%d" % i, ()) for i in range(count)]


@pytest.fixture
def group(server, topic_name, client):
    """The group of a test, without members yet, on a topic with 20 records in each of three partitions."""
    server.create_topic(topic_name, 3)
    librdkafka.produce(server, topic_name, numbered(60, 3))
    with Team(CLIENTS[client], server, topic_name, 3) as team:
        yield team


@each_client
def test_topics_are_made_grow_and_are_deleted(server, topic_name, admin, client):
    admin.create_topic(topic_name, 2)
    with pytest.raises(Refused):
        admin.create_topic(topic_name, 2)
    with server.connect() as raw, Team(CLIENTS[client], server, topic_name, 2) as pair:
        server.wait_writable(raw, topic_name, 2)
        pair.join(2)
        pair.settle()
        admin.add_partitions(topic_name, 4)
        with pytest.raises(Refused):
            admin.add_partitions(topic_name, 3)
        pair.partitions = frozenset((topic_name, p) for p in range(4))
        if "grow" in CLIENTS[client].cannot:
            for member in pair.members[:]:
                pair.leave(member)
            pair.join(2)
        pair.settle()
        server.wait_writable(raw, topic_name, 4)
        entries = numbered(400, 4)
        librdkafka.produce(server, topic_name, entries)
        pair.wait_for(400)
        assert pair.read() == {(e.partition, e.offset): e.value for e in entries}
        for member in pair.members[:]:
            pair.leave(member)
        admin.delete_topic(topic_name)
        wait_until(lambda: raw.metadata([topic_name])[topic_name].error == wire.UNKNOWN_TOPIC_OR_PARTITION, "the topic is gone")
    with pytest.raises(Refused):
        admin.delete_topic(topic_name)


@each_client
def test_groups_are_listed_and_described(admin, group, client):
    group.join(2)
    known = {name: member.partitions() for name, member in group.settle().members.items()}
    assert group.group in admin.list_groups()
    assert admin.describe_group(group.group) == ("Stable", known)
    for member in group.members[:]:
        group.leave(member)
    wait_until(lambda: admin.describe_group(group.group) == ("Empty", {}), "the group is empty")


@each_client
def test_a_group_is_deleted_when_it_is_empty(admin, group, client):
    needs(admin, "delete_group")
    member = group.join()
    (name,) = group.settle().members
    group.outside.commit(group.group, {(group.topic, 0): 1}, group.outside.generation(group.group), name)
    with pytest.raises(Refused):
        admin.delete_group(group.group)
    group.leave(member)
    admin.delete_group(group.group)
    assert group.group not in admin.list_groups()
    assert group.outside.committed(group.group) == {}
    with pytest.raises(Refused):
        admin.delete_group(group.group)


@each_client
def test_offsets_of_a_group_are_listed(admin, group, client):
    needs(admin, "list_offsets")
    offsets = {p: 10 + p[1] for p in group.partitions}
    group.outside.commit(group.group, offsets)
    assert admin.list_offsets(group.group) == offsets


@each_client
def test_offsets_are_altered_when_nobody_is_there(admin, group, client):
    needs(admin, "alter_offsets")
    offsets, changed = {p: 10 for p in group.partitions}, {(group.topic, 0): 7, (group.topic, 2): 0}
    group.outside.commit(group.group, offsets)
    group.join()
    group.settle()
    with pytest.raises(Refused):
        admin.alter_offsets(group.group, changed)
    assert group.outside.committed_offsets(group.group) == offsets
    group.leave(group.members[0])
    admin.alter_offsets(group.group, changed)
    assert group.outside.committed_offsets(group.group) == offsets | changed


@each_client
def test_offsets_are_deleted_when_nobody_reads_the_topic(admin, group, client):
    needs(admin, "delete_offsets")
    group.outside.commit(group.group, {p: 10 for p in group.partitions})
    group.join()
    group.settle()
    with pytest.raises(Refused):
        admin.delete_offsets(group.group, [(group.topic, 0)])
    group.leave(group.members[0])
    admin.delete_offsets(group.group, [(group.topic, 0), (group.topic, 1)])
    assert group.outside.committed_offsets(group.group) == {(group.topic, 2): 10}
