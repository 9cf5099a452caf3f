"""Kafka's Java clients and command-line tools, version 4, as they come: idempotent producers, acks=all."""

import json
import re

import pytest
from harness import dataset, java, librdkafka
from harness.java import good as tool
from harness.limits import LARGEST_SINGLE_VALUE

pytestmark = pytest.mark.client("java")

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def entries():
    return dataset.reference_entries()


@pytest.fixture(scope="module")
def records_file(entries, scratch):
    path = scratch / "records.bin"
    dataset.write(path, entries)
    return path


# ---------------------------------------------------------------------------------------------------- the clients


@pytest.mark.parametrize("mode", ["default", "enable.idempotence=false,max.in.flight.requests.per.connection=1"], ids=["default", "plain"])
def test_every_record_comes_back_as_it_went(server, topic_name, entries, records_file, tmp_path, mode):
    topics = [server.create_topic(f"{topic_name}-{codec}", 3) for codec in CODECS]
    settings = "" if mode == "default" else "," + mode
    java.program("Produce", server.bootstrap, records_file, *[f"{t},compression.type={c}{settings}" for t, c in zip(topics, CODECS)])
    java.program("Consume", server.bootstrap, tmp_path, "read_uncommitted", *topics)
    for topic in topics:
        dataset.assert_same(dataset.read(tmp_path / f"{topic}.bin"), entries)


def test_java_reads_what_librdkafka_wrote_and_the_other_way_round(server, topic_name, entries, records_file, tmp_path):
    theirs, ours = server.create_topic(topic_name + "-a", 3), server.create_topic(topic_name + "-b", 3)
    librdkafka.produce(server, theirs, entries, compression_type="lz4")
    java.program("Consume", server.bootstrap, tmp_path, "read_committed", theirs)
    dataset.assert_same(dataset.read(tmp_path / f"{theirs}.bin"), entries)
    java.program("Produce", server.bootstrap, records_file, f"{ours},compression.type=snappy")
    dataset.assert_same(librdkafka.consume(server, ours, len(entries)), entries)


@pytest.mark.parametrize("acks", ["0", "1"])
def test_weaker_acknowledgements(server, topic_name, entries, records_file, tmp_path, acks):
    server.create_topic(topic_name, 3)
    settings = f"acks={acks},enable.idempotence=false,max.in.flight.requests.per.connection=1"
    java.program("Produce", server.bootstrap, records_file, f"{topic_name},{settings}")
    if acks == "1":
        java.program("Consume", server.bootstrap, tmp_path, "read_uncommitted", topic_name)
        got = dataset.read(tmp_path / f"{topic_name}.bin")
    else:
        got = librdkafka.consume(server, topic_name, len(entries))
    dataset.assert_same(got, entries)


def test_a_batch_over_the_limit_is_split_and_a_record_over_it_fails_alone(server, topic_name):
    server.create_topic(topic_name)
    assert "last offset 41" in java.program("SizeLimits", server.bootstrap, topic_name, LARGEST_SINGLE_VALUE)
    assert len(librdkafka.consume(server, topic_name, 42, partitions=1)) == 42


# ------------------------------------------------------------------------------------------------------ the tools


@pytest.mark.client("java tools")
def test_console_producer_and_consumer(server, topic_name):
    server.create_topic(topic_name)
    lines = [f"h1:a{i},h1:b\tkey-{i}\tvalue {i}" for i in range(100_000)]
    described = "parse.key=true,parse.headers=true,null.marker=NULL".split(",")
    properties = [word for p in described for word in ("--reader-property", p)]
    where = ["--bootstrap-server", server.bootstrap, "--topic", topic_name]
    tool("kafka-console-producer", *where, *properties, stdin="\n".join(lines) + "\n")
    shown = "print.key=true,print.headers=true,print.offset=true,print.partition=true".split(",")
    shown = [word for p in shown for word in ("--formatter-property", p)]
    ranged = ["--partition", "0", "--offset", "earliest", "--max-messages", len(lines)]
    printed = tool("kafka-console-consumer", *where, *shown, *ranged).splitlines()
    expected = [f"Partition:0\tOffset:{i}\t{line}" for i, line in enumerate(lines)]
    assert printed == expected
    ranged = ["--partition", "0", "--offset", "99990", "--max-messages", "10"]
    assert tool("kafka-console-consumer", *where, *shown, *ranged).splitlines() == expected[-10:]


@pytest.mark.client("java tools")
def test_topics_are_made_listed_described_and_deleted(server, topic_name):
    where = ["--bootstrap-server", server.bootstrap]
    assert "Created topic" in tool("kafka-topics", *where, "--create", "--topic", topic_name, "--partitions", "5")
    described = tool("kafka-topics", *where, "--describe", "--topic", topic_name)
    assert re.search(r"TopicId: \S{22}\s+PartitionCount: 5\s+ReplicationFactor: 1", described)
    assert re.findall(r"Partition: (\d)", described) == list("01234") and "Leader: none" not in described
    assert topic_name in tool("kafka-topics", *where, "--list").splitlines()
    again = java.tool("kafka-topics", *where, "--create", "--topic", topic_name)
    assert again.returncode == 1 and "already exists" in again.stdout + again.stderr
    tool("kafka-topics", *where, "--create", "--topic", topic_name, "--if-not-exists")
    tool("kafka-topics", *where, "--delete", "--topic", topic_name)
    assert topic_name not in tool("kafka-topics", *where, "--list").splitlines()


@pytest.mark.client("java tools")
def test_offsets_earliest_latest_of_the_largest_timestamp_and_by_time(server, topic_name, entries):
    server.create_topic(topic_name, 3)
    some = entries[:30_000]
    librdkafka.produce(server, topic_name, some, compression_type="zstd")

    def offsets(time):
        printed = tool("kafka-get-offsets", "--bootstrap-server", server.bootstrap, "--topic", topic_name, "--time", time)
        return {int(p): int(o) for p, o in re.findall(rf"{topic_name}:(\d):(-?\d+)", printed)}

    assert offsets(-2) == {0: 0, 1: 0, 2: 0}
    assert offsets(-1) == {0: 10_000, 1: 10_000, 2: 10_000}
    youngest = {p: max((e for e in some if e.partition == p), key=lambda e: e.timestamp).offset for p in range(3)}
    assert offsets(-3) == youngest
    wanted = dataset.FIRST_TIMESTAMP + 12_345
    assert offsets(wanted) == {p: next(e.offset for e in some if e.partition == p and e.timestamp >= wanted) for p in range(3)}


@pytest.mark.client("java tools")
def test_the_verifiable_producer(server, topic_name):
    server.create_topic(topic_name, 3)
    arguments = ["--bootstrap-server", server.bootstrap, "--topic", topic_name, "--max-messages", "20000", "--acks", "-1"]
    printed = [json.loads(line) for line in tool("kafka-verifiable-producer", *arguments).splitlines()]
    confirmed = {(p["partition"], p["offset"]): p["value"] for p in printed if p["name"] == "producer_send_success"}
    assert len(confirmed) == 20_000
    got = {(e.partition, e.offset): e.value.decode() for e in librdkafka.consume(server, topic_name, 20_000)}
    assert got == confirmed


@pytest.mark.client("java tools")
def test_the_performance_tool(server, topic_name):
    server.create_topic(topic_name, 3)
    properties = ["--command-property", f"bootstrap.servers={server.bootstrap}"]
    size = ["--num-records", "100000", "--record-size", "1000", "--throughput", "-1"]
    assert "100000 records sent" in tool("kafka-producer-perf-test", "--topic", topic_name, *size, *properties)
    assert len(librdkafka.consume(server, topic_name, 100_000)) == 100_000


@pytest.mark.client("java tools")
def test_settings_of_topics_and_brokers(server, topic_name):
    server.create_topic(topic_name, 2, max_message_bytes=2_000_000)
    address = ("--bootstrap-server", server.bootstrap, "--describe")
    topic = java.good("kafka-configs", *address, "--topic", topic_name)
    assert re.search(r"max\.message\.bytes=2000000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:max\.message\.bytes=2000000, ", topic)
    assert "cleanup.policy" not in topic, "what is not set is not told"
    everything = java.good("kafka-configs", *address, "--topic", topic_name, "--all")
    assert "cleanup.policy=delete" in everything
    (broker,) = re.findall(r"Leader: (\d+)", java.good("kafka-topics", *address, "--topic", topic_name))[:1]
    assert "max.message.bytes=2000000" in java.good("kafka-topics", *address, "--topic", topic_name)
    settings = java.good("kafka-configs", *address, "--broker", broker, "--all")
    assert "delete.topic.enable=true" in settings and f"node.id={broker}" in settings


@pytest.mark.client("java tools")
def test_partitions_are_added(server, topic_name):
    server.create_topic(topic_name, 2)
    address = ("--bootstrap-server", server.bootstrap, "--topic", topic_name)
    java.good("kafka-topics", *address, "--alter", "--partitions", "5")
    assert "PartitionCount: 5" in java.good("kafka-topics", *address, "--describe")
    refused = java.tool("kafka-topics", *address, "--alter", "--partitions", "3")
    assert refused.returncode != 0 and "5 partition" in refused.stdout + refused.stderr
