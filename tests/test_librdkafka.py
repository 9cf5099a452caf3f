"""librdkafka through confluent-kafka: what it writes is what it and its neighbours read, record by record."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from harness import dataset, librdkafka
from harness.limits import LARGEST_SINGLE_VALUE

pytestmark = pytest.mark.client("confluent-kafka")

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def entries():
    return dataset.reference_entries()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "plain"])
def test_every_record_comes_back_as_it_went(server, topic_name, entries, codec, idempotent):
    server.create_topic(topic_name, 3)
    # A plain producer may re-order when it retries with several requests in flight; one keeps the offsets known.
    order = {} if idempotent else {"max_in_flight": 1}
    librdkafka.produce(server, topic_name, entries, compression_type=codec, enable_idempotence=idempotent, **order)
    dataset.assert_same(librdkafka.consume(server, topic_name, len(entries)), entries)


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_every_kind_of_acknowledgement(server, topic_name, entries, acks):
    server.create_topic(topic_name, 3)
    some = entries[:10_000]
    librdkafka.produce(server, topic_name, some, acknowledged=acks != 0, acks=acks, max_in_flight=1)
    dataset.assert_same(librdkafka.consume(server, topic_name, len(some)), some)


def test_a_consumer_starts_where_it_is_told(server, topic_name, entries):
    server.create_topic(topic_name, 3)
    librdkafka.produce(server, topic_name, entries[:30_000], batch_size=20_000)
    reader = librdkafka.consumer(server)
    reader.assign([TopicPartition(topic_name, 0, 9_000), TopicPartition(topic_name, 1, 1), TopicPartition(topic_name, 2, 9_999)])
    expected = [e for e in entries[:30_000] if e.offset >= {0: 9_000, 1: 1, 2: 9_999}[e.partition]]
    dataset.assert_same(librdkafka.read(reader, len(expected)), expected)
    reader.seek(TopicPartition(topic_name, 1, 5_000))
    again = [e for e in entries[:30_000] if e.partition == 1 and e.offset >= 5_000]
    dataset.assert_same(librdkafka.read(reader, len(again)), again)
    reader.close()


def test_small_fetches_lose_nothing(server, topic_name, entries):
    server.create_topic(topic_name, 3)
    some = entries[:20_000]
    librdkafka.produce(server, topic_name, some, linger_ms=0, batch_size=2_000)
    limits = {"fetch_message_max_bytes": 1_000, "fetch_max_bytes": 1_000, "message_max_bytes": 1_000}
    dataset.assert_same(librdkafka.consume(server, topic_name, len(some), **limits), some)


def test_read_committed_reads_everything_without_transactions(server, topic_name, entries):
    server.create_topic(topic_name, 3)
    librdkafka.produce(server, topic_name, entries[:10_000])
    got = librdkafka.consume(server, topic_name, 10_000, isolation_level="read_committed")
    dataset.assert_same(got, entries[:10_000])


@pytest.mark.parametrize("codec", CODECS)
def test_large_records(server, topic_name, codec):
    server.create_topic(topic_name)
    pool = b"".join(e.value or b"" for e in dataset.reference_entries(20_000, seed=3))
    large = [dataset.Entry(0, i, dataset.FIRST_TIMESTAMP, b"k", pool[i : i + 1_000_000], ()) for i in range(20)]
    librdkafka.produce(server, topic_name, large, compression_type=codec, message_max_bytes=1_500_000)
    dataset.assert_same(librdkafka.consume(server, topic_name, len(large), partitions=1), large)


def test_the_size_limit_is_exact(server, topic_name):
    server.create_topic(topic_name)
    fits, outcomes = bytes(LARGEST_SINGLE_VALUE), []
    # Plain: an idempotent producer would stop at the refusal.
    sender = librdkafka.producer(server, message_max_bytes=2_000_000, linger_ms=0)
    for value in (fits, fits + b"x", fits):
        sender.produce(topic_name, value, on_delivery=lambda error, message: outcomes.append(error and error.code()))
        sender.flush(60)
    assert outcomes == [None, KafkaError.MSG_SIZE_TOO_LARGE, None]
    assert [e.offset for e in librdkafka.consume(server, topic_name, 2, partitions=1)] == [0, 1]


def test_watermarks_and_offsets_for_times(server, topic_name):
    server.create_topic(topic_name)
    # Timestamps out of order, inside one compressed batch and across batches.
    first = dataset.FIRST_TIMESTAMP
    times = [first + t for t in (0, 50, 20, 90, 60, 90, 100, 95)]
    written = [dataset.Entry(0, i, t, None, b"v%d" % i, ()) for i, t in enumerate(times)]
    librdkafka.produce(server, topic_name, written[:5], compression_type="zstd")
    librdkafka.produce(server, topic_name, written[5:], compression_type="gzip")
    reader = librdkafka.consumer(server)
    assert reader.get_watermark_offsets(TopicPartition(topic_name, 0), timeout=30) == (0, 8)
    for wanted, offset in [(0, 0), (first + 1, 1), (first + 51, 3), (first + 91, 6), (first + 100, 6)]:
        (answer,) = reader.offsets_for_times([TopicPartition(topic_name, 0, wanted)], timeout=30)
        assert (answer.error, answer.offset) == (None, offset), f"first record at or after {wanted - first}"
    (answer,) = reader.offsets_for_times([TopicPartition(topic_name, 0, first + 101)], timeout=30)
    assert answer.offset == -1, "no record is that young"
    reader.close()
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    specs = {OffsetSpec.earliest(): (0, -1), OffsetSpec.latest(): (8, -1), OffsetSpec.max_timestamp(): (6, first + 100)}
    for spec, expected in specs.items():
        (future,) = admin.list_offsets({TopicPartition(topic_name, 0): spec}).values()
        assert (future.result(30).offset, future.result(30).timestamp) == expected


def test_a_lookup_by_time_is_exact_in_a_long_partition(server, topic_name, entries):
    server.create_topic(topic_name)
    written = [e._replace(partition=0, offset=i) for i, e in enumerate(entries[:20_000])]
    librdkafka.produce(server, topic_name, written, compression_type="lz4", batch_size=10_000)
    reader = librdkafka.consumer(server)
    for wanted in range(written[0].timestamp, written[-1].timestamp, 997):
        expected = next(e.offset for e in written if e.timestamp >= wanted)
        (answer,) = reader.offsets_for_times([TopicPartition(topic_name, 0, wanted)], timeout=30)
        assert answer.offset == expected
    reader.close()


def test_an_offset_that_is_not_there_is_told(server, topic_name):
    server.create_topic(topic_name)
    librdkafka.produce(server, topic_name, [dataset.Entry(0, 0, dataset.FIRST_TIMESTAMP, None, b"v", ())])
    reader = librdkafka.consumer(server)
    reader.assign([TopicPartition(topic_name, 0, 1_000)])
    with pytest.raises(KafkaException) as caught:
        librdkafka.read(reader, 1)
    assert caught.value.args[0].code() == KafkaError._AUTO_OFFSET_RESET
    reader.close()


def test_a_waiting_consumer_is_woken_by_a_write(server, topic_name):
    server.create_topic(topic_name)
    reader = librdkafka.consumer(server, fetch_wait_max_ms=30_000, socket_timeout_ms=60_000)
    reader.assign([TopicPartition(topic_name, 0, 0)])
    assert reader.consume(1, timeout=1) == []
    librdkafka.produce(server, topic_name, [dataset.Entry(0, 0, dataset.FIRST_TIMESTAMP, None, b"v", ())])
    # Well before the 30 seconds that the fetch asked to wait for.
    assert len(librdkafka.read(reader, 1, seconds=25)) == 1
    reader.close()


def test_topics_have_ids_and_a_new_one_when_made_again(server, topic_name):
    admin = AdminClient({"bootstrap.servers": server.bootstrap})

    def make_and_describe():
        admin.create_topics([NewTopic(topic_name, 2, 1)])[topic_name].result(30)
        with server.connect() as connection:
            server.wait_writable(connection, topic_name, 2)
            return connection.metadata([topic_name])[topic_name].id

    first = make_and_describe()
    librdkafka.produce(server, topic_name, [dataset.Entry(0, 0, dataset.FIRST_TIMESTAMP, None, b"old", ())])
    admin.delete_topics([topic_name])[topic_name].result(30)
    second = make_and_describe()
    assert first != second and first.int and second.int
    reader = librdkafka.consumer(server)
    assert reader.get_watermark_offsets(TopicPartition(topic_name, 0), timeout=30) == (0, 0), "no old data"
    reader.close()


def test_a_topic_is_made_on_first_use(server, topic_name):
    librdkafka.produce(server, topic_name, [dataset.Entry(0, 0, dataset.FIRST_TIMESTAMP, None, b"v", ())])
    assert len(librdkafka.consume(server, topic_name, 1, partitions=1)) == 1
