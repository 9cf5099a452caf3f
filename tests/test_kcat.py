"""kcat 1.7.1 (librdkafka 2.0.2, the oldest client we promise): produce, consume, metadata, look-ups by time."""

import json
import re
import subprocess
import time

import pytest
from harness import dataset, kcat, librdkafka

pytestmark = pytest.mark.client("kcat")

# One in eight has a null key or value, which lines cannot say: enough for 100,000 that can.
COUNT, PARTITIONS = 120_000, 3


@pytest.fixture(scope="module")
def entries():
    return dataset.reference_entries(COUNT, PARTITIONS, text=True)


def consume(server, topic, *arguments):
    return kcat.parse(kcat.run(server, "-C", "-t", topic, "-e", "-q", "-f", kcat.FORMAT, *arguments))


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_it_reads_every_record(server, topic_name, entries, codec):
    server.create_topic(topic_name, PARTITIONS)
    librdkafka.produce(server, topic_name, entries, compression_type=codec)
    dataset.assert_same(consume(server, topic_name, "-o", "beginning"), entries)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("acks", ["-1", "1"])
def test_it_writes_every_record(server, topic_name, entries, codec, acks):
    server.create_topic(topic_name)
    written = [e for e in entries if e.key and e.value]
    lines = b"".join(b"%s\t%s\n" % (e.key, e.value) for e in written)
    began = int(time.time() * 1000)
    same = ["-H", "trace=a", "-H", "trace=b"]
    settings = ["-X", f"acks={acks}", "-X", "max.in.flight=1"]
    kcat.run(server, "-P", "-t", topic_name, "-p", 0, "-K", "\t", "-z", codec, *same, *settings, stdin=lines)
    got = librdkafka.consume(server, topic_name, len(written), partitions=1)
    pairs = (("trace", b"a"), ("trace", b"b"))
    expected = [dataset.Entry(0, i, None, e.key, e.value, pairs) for i, e in enumerate(written)]
    dataset.assert_same(got, expected, ignoring=["timestamp"])
    assert all(began <= e.timestamp <= time.time() * 1000 for e in got), "timestamps are of the time of writing"


def test_an_idempotent_producer_with_null_values(server, topic_name):
    server.create_topic(topic_name)
    lines = b"".join(b"key-%d\t\n" % i for i in range(1000))
    kcat.run(server, "-P", "-t", topic_name, "-p", 0, "-K", "\t", "-Z", "-X", "enable.idempotence=true", stdin=lines)
    got = consume(server, topic_name, "-p", 0, "-o", "beginning")
    assert [(e.key, e.value) for e in got] == [(b"key-%d" % i, None) for i in range(1000)]


def test_offsets_by_number_and_from_the_end(server, topic_name, entries):
    server.create_topic(topic_name, PARTITIONS)
    some = entries[:9_000]
    librdkafka.produce(server, topic_name, some)
    of_one = [e for e in some if e.partition == 1]
    dataset.assert_same(consume(server, topic_name, "-p", 1, "-o", 2_500), of_one[2_500:])
    dataset.assert_same(consume(server, topic_name, "-p", 1, "-o", -7), of_one[-7:])
    dataset.assert_same(consume(server, topic_name, "-p", 1, "-o", 10, "-c", 5), of_one[10:15])
    assert consume(server, topic_name, "-p", 1, "-o", "end") == []


def test_a_look_up_by_time(server, topic_name, entries):
    server.create_topic(topic_name)
    written = [e._replace(partition=0, offset=i) for i, e in enumerate(entries[:5_000])]
    librdkafka.produce(server, topic_name, written)
    wanted = dataset.FIRST_TIMESTAMP + 2_345
    found = next(e.offset for e in written if e.timestamp >= wanted)
    assert kcat.run(server, "-Q", "-t", f"{topic_name}:0:{wanted}").split() == f"{topic_name} [0] offset {found}".encode().split()
    dataset.assert_same(consume(server, topic_name, "-p", 0, "-o", f"s@{wanted}"), written[found:])


def test_metadata_lists_brokers_topics_and_partitions(server, topic_name):
    server.create_topic(topic_name, 7)
    listed = json.loads(kcat.run(server, "-L", "-J"))
    assert [b["name"] for b in listed["brokers"]] == [server.bootstrap]
    (topic,) = [t for t in listed["topics"] if t["topic"] == topic_name]
    broker = listed["brokers"][0]["id"]
    assert [p["partition"] for p in topic["partitions"]] == list(range(7))
    assert all(p["leader"] == broker and p["replicas"] == p["isrs"] == [{"id": broker}] for p in topic["partitions"])
    text = kcat.run(server, "-L", "-t", topic_name).decode()
    assert re.search(rf'topic "{topic_name}" with 7 partitions', text)


def test_it_follows_a_partition_as_it_grows(server, topic_name):
    server.create_topic(topic_name)
    command = ["kcat", "-b", server.bootstrap, "-C", "-t", topic_name, "-p", "0", "-o", "beginning", "-u", "-q", "-f", "%o:%s\n"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
        try:
            for i in range(20):
                kcat.run(server, "-P", "-t", topic_name, "-p", 0, stdin=b"line %d" % i)
                assert follower.stdout.readline() == b"%d:line %d\n" % (i, i)
        finally:
            follower.kill()
