"""Kafka's command-line tools for groups: what they print is read strictly, every column of every line."""

import datetime
import json
import re
import signal
import subprocess

import pytest
from harness import dataset, java, librdkafka
from harness.groups import CLIENTS
from harness.groups.team import Team
from harness.java import good as tool
from harness.server import wait_until

pytestmark = pytest.mark.client("java tools")

DESCRIBED = ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"]
MEMBERS = ["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS", "CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"]
STATE = ["GROUP", "COORDINATOR", "(ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"]
RESET = ["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]


@pytest.fixture
def where(server):
    return ["--bootstrap-server", server.bootstrap]


@pytest.fixture
def group(server, topic_name):
    """A group of librdkafka's on a topic with 3,000 records in three partitions, one a millisecond."""
    server.create_topic(topic_name, 3)
    entries = [dataset.Entry(i % 3, i // 3, dataset.FIRST_TIMESTAMP + i, None, b"%d" % i, ()) for i in range(3_000)]
    librdkafka.produce(server, topic_name, entries)
    with Team(CLIENTS["confluent-kafka"], server, topic_name, 3) as team:
        yield team


def table(text, columns):
    """The rows of the only table in what a tool printed; a word for each column, nothing else."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines and lines[0] == columns, text
    assert all(len(row) == len(columns) for row in lines[1:]), text
    return sorted(lines[1:])


def groups_tool(where, *arguments):
    """Runs kafka-consumer-groups: (what it printed, its complaints), which must be one of the two alone."""
    done = java.tool("kafka-consumer-groups", *where, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr.strip()


def printed(where, columns, *arguments):
    out, complaints = groups_tool(where, *arguments)
    assert not complaints, complaints
    return table(out, columns)


def test_groups_are_listed(where, group):
    name, words = group.group, tool("kafka-consumer-groups", *where, "--list").splitlines()
    assert name not in words
    group.join()
    group.settle()
    assert name in tool("kafka-consumer-groups", *where, "--list").splitlines()
    assert [name, "Stable"] in printed(where, ["GROUP", "STATE"], "--list", "--state")
    group.leave(group.members[0])
    assert [name, "Empty"] in printed(where, ["GROUP", "STATE"], "--list", "--state", "empty")


def test_a_group_is_described_with_lag_members_and_state(where, server, group):
    name, topic = group.group, group.topic
    group.join(2)
    known = group.settle().members
    group.wait_for(3_000)
    # Partition 2 without a commit: without an offset, and so without a lag.
    owner = {p: member for member, described in known.items() for p in described.partitions()}
    for partition, offset in {0: 400, 1: 1_000}.items():
        group.outside.commit(name, {(topic, partition): offset}, group.outside.generation(name), owner[topic, partition])
    numbers = {0: ["400", "1000", "600"], 1: ["1000", "1000", "0"], 2: ["-", "1000", "-"]}
    expected = [[name, topic, str(p), *numbers[p], owner[topic, p], "/127.0.0.1", "rdkafka"] for p in range(3)]
    assert printed(where, DESCRIBED, "--describe", "--group", name) == expected

    def owned(member):
        partitions = sorted(p for _, p in known[member].partitions())
        return [str(len(partitions)), "-", f"{topic}:{','.join(map(str, partitions))}", "-", "-"]

    rows = [[name, member, "/127.0.0.1", "rdkafka", *owned(member)] for member in sorted(known)]
    assert printed(where, MEMBERS, "--describe", "--group", name, "--members", "--verbose") == rows
    ((_, coordinator, node, *rest),) = printed(where, STATE, "--describe", "--group", name, "--state")
    assert coordinator == server.bootstrap and re.fullmatch(r"\(\d+\)", node)
    assert rest == ["range", "Stable", "2"]


def test_a_group_without_members_is_described(where, group):
    name, topic = group.group, group.topic
    group.outside.commit(name, {(topic, 1): 250})
    out, complaint = groups_tool(where, "--describe", "--group", name)
    assert complaint == f"Consumer group '{name}' has no active members."
    assert table(out, DESCRIBED) == [[name, topic, "1", "250", "1000", "750", "-", "-", "-"]]
    out, complaint = groups_tool(where, "--describe", "--group", name + "-other")
    assert f"GroupIdNotFoundException: Group {name}-other not found." in out


def test_offsets_are_reset_when_nobody_is_there(where, group):
    name, topic = group.group, group.topic
    at = datetime.datetime.fromtimestamp(dataset.FIRST_TIMESTAMP / 1000 + 1, datetime.UTC)  # when record 1,000 was written
    group.join()
    group.settle()
    out, _ = groups_tool(where, "--group", name, "--reset-offsets", "--to-earliest", "--all-topics", "--execute")
    assert f"Assignments can only be reset if the group '{name}' is inactive, but the current state is Stable." in out
    group.leave(group.members[0])
    resets = [
        (["--to-latest", "--topic", topic, "--dry-run"], {0: 1_000, 1: 1_000, 2: 1_000}, {}),
        (["--to-earliest", "--topic", topic, "--execute"], {0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0}),
        (["--shift-by", "17", "--topic", f"{topic}:1", "--execute"], {1: 17}, {0: 0, 1: 17, 2: 0}),
        (["--to-datetime", at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "--topic", f"{topic}:0,2", "--execute"], {0: 334, 2: 333}, {0: 334, 1: 17, 2: 333}),
    ]
    for arguments, new, committed in resets:
        rows = printed(where, RESET, "--group", name, "--reset-offsets", *arguments)
        assert rows == [[name, topic, str(p), str(offset)] for p, offset in new.items()], arguments
        assert group.outside.committed_offsets(name) == {(topic, p): offset for p, offset in committed.items()}


def test_offsets_and_groups_are_deleted(where, group):
    name, topic = group.group, group.topic
    group.join()
    member = next(iter(group.settle().members))
    group.outside.commit(name, {p: 5 for p in group.partitions}, group.outside.generation(name), member)
    out, _ = groups_tool(where, "--group", name, "--delete")
    assert f"Group '{name}' could not be deleted due to" in out and "GroupNotEmptyException" in out
    out, _ = groups_tool(where, "--group", name, "--delete-offsets", "--topic", topic)
    assert out.count("GroupSubscribedToTopicException") == 3
    group.leave(group.members[0])
    out, complaints = groups_tool(where, "--group", name, "--delete-offsets", "--topic", f"{topic}:2")
    said, rows = out.split("\n", 1)
    assert said == f"Request succeeded for deleting offsets from group {name}." and not complaints
    assert table(rows, ["TOPIC", "PARTITION", "STATUS"]) == [[topic, "2", "Successful"]]
    assert group.outside.committed_offsets(name) == {(topic, 0): 5, (topic, 1): 5}
    out, complaints = groups_tool(where, "--group", name, "--delete")
    assert out.strip() == f"Deletion of requested consumer groups ('{name}') was successful." and not complaints
    assert name not in group.outside.list()


def test_the_verifiable_consumer(where, server, group):
    """Two of them share what the verifiable producer goes on to write, and commit all that they read."""
    topic, name = group.topic, group.group + "-verifiable"
    arguments = [*where, "--topic", topic, "--group-id", name, "--reset-policy", "earliest"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    consumers = [java.start("kafka-verifiable-consumer", *arguments, **pipes) for _ in range(2)]
    try:
        wait_until(lambda: [len(m.partitions()) for m in group.outside.describe(name).members.values()] in ([1, 2], [2, 1]), "both read")
        tool("kafka-verifiable-producer", *where, "--topic", topic, "--max-messages", "6000", "--acks", "-1")
        ends = {(topic, p): server_end(server, topic, p) for p in range(3)}
        assert sum(ends.values()) == 9_000
        wait_until(lambda: group.outside.committed_offsets(name) == ends, "everything is committed")
    finally:
        for consumer in consumers:
            consumer.send_signal(signal.SIGTERM)
    said = [[json.loads(line) for line in consumer.communicate(timeout=60)[0].splitlines()] for consumer in consumers]
    for lines in said:
        assert {"startup_complete", "partitions_assigned", "partitions_revoked", "shutdown_complete"} <= {line["name"] for line in lines}
        assert all(line["success"] for line in lines if line["name"] == "offsets_committed")
    assert sum(line["count"] for lines in said for line in lines if line["name"] == "records_consumed") >= 9_000


def server_end(server, topic, partition):
    with server.connect() as connection:
        return connection.list_offset(topic, partition, -1)[2]


def test_the_consumer_performance_tool(where, group):
    name = group.group + "-performance"
    out = tool("kafka-consumer-perf-test", *where, "--topic", group.topic, "--group", name, "--num-records", "3000")
    columns, values = (line.split(", ") for line in out.splitlines())
    assert dict(zip(columns, values))["data.consumed.in.nMsg"] == "3000"
    assert group.outside.describe(name).state == "Empty"


def test_the_console_consumer_in_a_group(where, group):
    name = group.group + "-console"
    arguments = [*where, "--topic", group.topic, "--group", name, "--from-beginning"]
    lines = tool("kafka-console-consumer", *arguments, "--max-messages", "3000").splitlines()
    assert sorted(lines, key=int) == [str(i) for i in range(3_000)]
    assert group.outside.committed_offsets(name) == {p: 1_000 for p in group.partitions}


def test_the_cluster_id(where, server):
    said = tool("kafka-cluster", "cluster-id", *where)
    assert re.fullmatch(r"Cluster ID: [\w-]{22}\n", said)
    assert tool("kafka-cluster", "cluster-id", *where) == said


def test_the_versions_of_a_broker(where, server):
    first, *lines, last = tool("kafka-broker-api-versions", *where).splitlines()
    assert re.fullmatch(rf"{re.escape(server.bootstrap)} \(id: \d+ rack: \S+ isFenced: false\) -> \(", first) and last == ")"
    with server.connect() as connection:
        served = connection.api_versions(2)[1]
    usable = {}
    for line in lines:
        name, key, versions = re.fullmatch(r"\t(\w+)\((\d+)\): (.*?),?", line).groups()
        if versions != "UNSUPPORTED":
            low, high, use = re.fullmatch(r"(\d+)(?: to (\d+))? \[usable: (\w+)\]", versions).groups()
            usable[int(key)] = (int(low), int(high or low))
            assert use != "UNSUPPORTED", name
    assert usable == served
