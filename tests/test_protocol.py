"""What goes over the socket, byte by byte: versions, bad batches, lengths that lie. Each gets Kafka's error code or a
closed connection, and the server goes on."""

import socket
import struct
import uuid

import pytest
from harness import dataset, wire
from harness.limits import LARGEST_BATCH, LARGEST_SINGLE_VALUE
from harness.wire import Record

ONE = [Record(b"k", b"v", (("h", b"1"), ("h", None)), dataset.FIRST_TIMESTAMP)]


@pytest.fixture
def raw(server):
    with server.connect() as connection:
        yield connection


@pytest.fixture
def topic(server, topic_name):
    return server.create_topic(topic_name, 2)


@pytest.fixture(autouse=True)
def the_server_goes_on(server):
    yield
    assert server.process.poll() is None
    assert server.is_ready(), "the server no longer answers"


# ---------------------------------------------------------------------------------------------------- ApiVersions


@pytest.mark.parametrize("version", [5, 99, 32767])
def test_an_unknown_version_of_api_versions_is_answered_in_version_0(raw, version):
    reader = raw.request(wire.API_VERSIONS, version, b"\x04raw\x041.0\0")
    assert reader.i16() == wire.UNSUPPORTED_VERSION
    keys = {key: (low, high) for key, low, high in reader.array(lambda: (reader.i16(), reader.i16(), reader.i16()))}
    assert reader.at == len(reader.data), "nothing behind the list: it is version 0"
    assert keys[wire.API_VERSIONS][1] < version
    assert raw.api_versions()[0] == wire.NONE, "the connection is kept"


def test_the_advertised_versions_are_what_old_clients_need(raw):
    error, keys = raw.api_versions()
    assert error == wire.NONE
    lowest = {wire.PRODUCE: 0, wire.FETCH: 4, wire.LIST_OFFSETS: 1, wire.METADATA: 0, wire.API_VERSIONS: 0, wire.INIT_PRODUCER_ID: 0}
    assert {api: keys[api][0] for api in lowest} == lowest
    highest = {wire.PRODUCE: 13, wire.FETCH: 18, wire.LIST_OFFSETS: 11, wire.METADATA: 13, wire.CREATE_TOPICS: 7, wire.DELETE_TOPICS: 6}
    assert {api: keys[api][1] for api in highest} == highest


@pytest.mark.parametrize("version", [0, 1, 2])
def test_produce_before_version_3_is_refused(raw, topic, kind, version):
    batch = wire.record_batch(ONE)
    body = wire.i16(-1) + wire.i32(1000) + wire.array([wire.string(topic) + wire.array([wire.i32(0) + wire.blob(batch)])])
    if kind == "kafka":
        raw.send(wire.PRODUCE, version, body)
        raw.wait_closed()
    else:
        (answer,) = wire.read_produce(raw.request(wire.PRODUCE, version, body), version)
        assert answer.error == wire.UNSUPPORTED_VERSION
        assert raw.api_versions()[0] == wire.NONE, "the connection is kept"


@pytest.mark.parametrize("api, version", [(9999, 0), (-1, 0), (wire.PRODUCE, 14), (wire.FETCH, 3), (wire.METADATA, 99), (wire.METADATA, -1)])
def test_an_unknown_key_or_version_closes(raw, api, version):
    raw.send(api, version, b"\0" * 64)
    raw.wait_closed()


# ------------------------------------------------------------------------------------------- frames and lengths


def frame(size, content=b""):
    return struct.pack(">i", size) + content


HEADER = wire.i16(wire.METADATA) + wire.i16(5) + wire.i32(1) + wire.string("raw")
TWO_BILLION = wire.i32(2_000_000_000)

LIES = {
    "a negative length": frame(-1),
    "a length of zero": frame(0),
    "more than a frame may have": frame(2_147_483_647),
    "a frame too short for a header": frame(3, b"\0\3\0"),
    "an array of two billion topics": frame(len(HEADER) + 4, HEADER + TWO_BILLION),
    "a string that passes the end": frame(len(HEADER) + 6, HEADER + wire.i32(1) + wire.i16(32_000)),
    "a client id that passes the end": frame(12, HEADER[:8] + wire.i16(10_000) + b"xx"),
}


@pytest.mark.parametrize("bytes_sent", LIES.values(), ids=LIES.keys())
def test_a_frame_that_lies_closes(raw, bytes_sent):
    raw.socket.sendall(bytes_sent)
    raw.wait_closed()


COMPACT_LIES = {
    "a compact array of two billion": wire.uvarint(2_000_000_001),
    "a varint that never ends": b"\xff" * 11,
    "two billion tagged fields": wire.uvarint(1) + b"\0\0" + wire.uvarint(2_000_000_000),
}


@pytest.mark.parametrize("body", COMPACT_LIES.values(), ids=COMPACT_LIES.keys())
def test_a_compact_length_that_lies_closes(raw, body):
    raw.send(wire.METADATA, 12, body)
    raw.wait_closed()


def test_a_produce_request_whose_records_pass_the_end_closes(raw, topic):
    body = wire.produce_body(topic, 0, wire.record_batch(ONE))
    at = body.rindex(wire.i32(len(wire.record_batch(ONE))))
    raw.send(wire.PRODUCE, 7, body[:at] + wire.i32(1_000_000) + body[at + 4 :])
    raw.wait_closed()


@pytest.mark.parametrize("closer", [socket.SHUT_WR, socket.SHUT_RDWR], ids=["half", "whole"])
def test_a_client_that_leaves_in_the_middle_of_a_frame(raw, closer):
    raw.socket.sendall(frame(1000, HEADER))
    raw.socket.shutdown(closer)


def test_many_requests_at_once_are_answered_in_order(raw, topic):
    numbers = [raw.send(wire.PRODUCE, 7, wire.produce_body(topic, i % 2, wire.record_batch(ONE))) for i in range(500)]
    numbers.append(raw.send(wire.METADATA, 5, wire.array([]) + wire.i8(0)))
    answers = [raw.receive() for _ in numbers]
    assert [number for number, _ in answers] == numbers
    offsets = [wire.read_produce(reader, 7)[0].offset for _, reader in answers[:500]]
    assert offsets == [i // 2 for i in range(500)]


def test_a_request_without_acknowledgement_has_no_answer(raw, topic):
    raw.send(wire.PRODUCE, 7, wire.produce_body(topic, 0, wire.record_batch(ONE), acks=0))
    assert raw.produce(topic, 0, wire.record_batch(ONE)).offset == 1, "the next answer is the next request's"


def test_an_acknowledgement_that_does_not_exist(raw, topic):
    assert raw.produce(topic, 0, wire.record_batch(ONE), acks=2).error == wire.INVALID_REQUIRED_ACKS


# -------------------------------------------------------------------------------------------------------- batches


def test_a_batch_comes_back_as_it_went(raw, topic):
    for codec in range(5):
        assert raw.produce(topic, 0, wire.record_batch(ONE * 3, codec)) == (0, wire.NONE, codec * 3, None)
    (answer,) = raw.fetch(topic, {0: 4})
    batches = wire.decode_batches(answer.records)
    assert [b.base_offset for b in batches] == [3, 6, 9, 12], "whole batches, from the one that holds the offset"
    assert all(record == ONE[0] for b in batches for _, record in b.records)
    assert answer.offset == 15


# The error codes are those of Apache Kafka 4.3.
BAD_BATCHES = {
    "wrong CRC": (wire.record_batch(ONE, crc=1), wire.CORRUPT_MESSAGE),
    "magic 3": (wire.record_batch(ONE, magic=3), wire.CORRUPT_MESSAGE),
    "count below the records": (wire.record_batch(ONE * 3, count=2), wire.INVALID_RECORD),
    "count above the records": (wire.record_batch(ONE * 3, count=4), wire.INVALID_RECORD),
    "negative count": (wire.record_batch(ONE, count=-1), wire.INVALID_RECORD),
    "last offset that does not fit the count": (wire.record_batch(ONE, last_offset_delta=7), wire.INVALID_RECORD),
    "a length that passes the records": (wire.record_batch(ONE, length=5_000), wire.INVALID_RECORD),
    "a length below the header's": (wire.record_batch(ONE, length=20), wire.CORRUPT_MESSAGE),
    "a negative length": (wire.record_batch(ONE, length=-5), wire.CORRUPT_MESSAGE),
    "half a batch": (wire.record_batch(ONE)[:30], wire.INVALID_RECORD),
    "no batch at all": (b"", wire.INVALID_RECORD),
    "two batches": (wire.record_batch(ONE) * 2, wire.INVALID_RECORD),
    "a control batch": (wire.record_batch(ONE, attributes=0x20), wire.INVALID_RECORD),
    # Kafka itself answers UNKNOWN_SERVER_ERROR, which a client takes for a fault of the server.
    "a codec that is not known": (wire.record_batch(ONE, attributes=6), wire.UNSUPPORTED_COMPRESSION_TYPE),
}


@pytest.mark.parametrize("records, error", BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_a_bad_batch_is_refused_and_leaves_nothing(raw, kind, topic, records, error):
    if kind == "kafka" and error == wire.UNSUPPORTED_COMPRESSION_TYPE:
        error = -1
    assert raw.produce(topic, 0, records).error == error
    assert raw.list_offset(topic, 0, wire.LATEST)[2] == 0
    assert raw.produce(topic, 0, wire.record_batch(ONE)).offset == 0


def test_zstd_needs_a_version_that_knows_it(raw, topic):
    body = wire.produce_body(topic, 0, wire.record_batch(ONE, wire.ZSTD))
    (answer,) = wire.read_produce(raw.request(wire.PRODUCE, 6, body), 6)
    assert answer.error == wire.UNSUPPORTED_COMPRESSION_TYPE


def test_a_timestamp_far_in_the_future_is_refused(raw, topic):
    batch = wire.record_batch([Record(None, b"v", (), 4_000_000_000_000)])
    assert raw.produce(topic, 0, batch).error == wire.INVALID_TIMESTAMP


def test_a_refused_batch_fails_alone(raw, topic):
    bad, good = wire.record_batch(ONE, crc=1), wire.record_batch(ONE)
    partitions = [wire.i32(0) + wire.blob(bad), wire.i32(1) + wire.blob(good)]
    body = wire.string(None) + wire.i16(-1) + wire.i32(1000) + wire.array([wire.string(topic) + wire.array(partitions)])
    answers = {a.partition: a for a in wire.read_produce(raw.request(wire.PRODUCE, 7, body), 7)}
    assert (answers[0].error, answers[1].error, answers[1].offset) == (wire.CORRUPT_MESSAGE, wire.NONE, 0)


def test_the_size_limit_is_exact(raw, topic):
    fits = wire.record_batch([Record(None, bytes(LARGEST_SINGLE_VALUE))])
    over = wire.record_batch([Record(None, bytes(LARGEST_SINGLE_VALUE + 1))])
    assert len(fits) == LARGEST_BATCH
    assert raw.produce(topic, 0, fits).error == wire.NONE
    assert raw.produce(topic, 0, over).error == wire.MESSAGE_TOO_LARGE
    assert raw.produce(topic, 0, fits).offset == 1


def test_a_topic_or_partition_that_is_not_there(raw, topic):
    batch = wire.record_batch(ONE)
    assert raw.produce("no-such-topic", 0, batch).error == wire.UNKNOWN_TOPIC_OR_PARTITION
    for partition in (2, -1, 2_000_000_000):
        assert raw.produce(topic, partition, batch).error == wire.UNKNOWN_TOPIC_OR_PARTITION
        assert raw.fetch(topic, {partition: 0})[0].error == wire.UNKNOWN_TOPIC_OR_PARTITION


# ------------------------------------------------------------------------------------------------ idempotent writes


def test_a_repeated_batch_is_answered_with_its_first_offset(raw, server, topic):
    producer, epoch = raw.init_producer_id()
    batches = [wire.record_batch(ONE * 2, producer=(producer, epoch, 2 * i)) for i in range(5)]
    assert [raw.produce(topic, 0, b).offset for b in batches] == [0, 2, 4, 6, 8]
    with server.connect() as other:
        assert [other.produce(topic, 0, b)[1:3] for b in batches] == [(wire.NONE, o) for o in (0, 2, 4, 6, 8)]
        assert other.list_offset(topic, 0, wire.LATEST)[2] == 10


def test_a_gap_in_the_sequence_is_refused(raw, topic):
    producer, epoch = raw.init_producer_id()
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 0))).error == wire.NONE
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 2))).error == wire.OUT_OF_ORDER_SEQUENCE
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 1))).offset == 1


@pytest.mark.ours("Kafka takes any first sequence of a producer it does not know in that partition")
def test_a_new_producer_starts_at_zero(raw, topic):
    producer, epoch = raw.init_producer_id()
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 5))).error == wire.OUT_OF_ORDER_SEQUENCE
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 0))).offset == 0


def test_an_older_epoch_is_fenced_and_a_newer_starts_at_zero(raw, topic):
    producer, epoch = raw.init_producer_id()
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 0))).error == wire.NONE
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch + 1, 5))).error == wire.OUT_OF_ORDER_SEQUENCE
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch + 1, 0))).offset == 1
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 1))).error == wire.INVALID_PRODUCER_EPOCH


def test_sequences_wrap(raw, topic):
    producer, epoch = raw.init_producer_id()
    last = (1 << 31) - 1
    if raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, last))).error:
        pytest.skip("a producer starts at zero here: two billion records would be needed")
    assert raw.produce(topic, 0, wire.record_batch(ONE, producer=(producer, epoch, 0))).offset == 1


def test_every_producer_gets_an_id_of_its_own(raw):
    ids = {raw.init_producer_id() for _ in range(50)}
    assert len({producer for producer, _ in ids}) == 50 and {epoch for _, epoch in ids} == {0}


# ------------------------------------------------------------------------------------------------------- fetching


def test_the_first_batch_is_whole_however_small_the_limit(raw, topic):
    large = [Record(None, bytes(10_000))]
    for partition in (0, 1):
        for _ in range(3):
            raw.produce(topic, partition, wire.record_batch(large))
    answers = raw.fetch(topic, {0: 0, 1: 0}, max_bytes=1, partition_max_bytes=1)
    counts = sorted(len(wire.decode_batches(a.records or b"")) for a in answers)
    assert counts == [0, 1], "one whole batch in the whole answer"
    answers = raw.fetch(topic, {0: 0, 1: 0}, partition_max_bytes=20_500)
    assert [len(wire.decode_batches(a.records)) for a in answers] == [2, 2], "whole batches up to the limit"


def test_a_fetch_waits_for_enough_bytes(server, raw, topic):
    size = len(wire.record_batch(ONE))
    waiting = raw.send(wire.FETCH, 4, wire.fetch_body(topic, {0: 0}, max_wait_ms=30_000, min_bytes=3 * size))
    with server.connect() as writer:
        for _ in range(3):
            writer.produce(topic, 0, wire.record_batch(ONE))
    number, reader = raw.receive()
    (answer,) = wire.read_fetch(reader)
    assert number == waiting and len(wire.decode_batches(answer.records)) == 3


def test_a_fetch_with_nothing_to_give_answers_after_its_wait(raw, topic):
    (answer,) = raw.fetch(topic, {0: 0}, max_wait_ms=100)
    assert (answer.error, answer.offset, answer.records or b"") == (wire.NONE, 0, b"")


@pytest.mark.parametrize("offset", [-1, 2, 1 << 62])
def test_an_offset_out_of_range(raw, topic, offset):
    raw.produce(topic, 0, wire.record_batch(ONE))
    assert raw.fetch(topic, {0: offset})[0].error == wire.OFFSET_OUT_OF_RANGE


def test_a_topic_by_its_id(raw, topic):
    topic_id = raw.metadata([topic])[topic].id
    body = wire.produce_body_by_id(topic_id, 0, wire.record_batch(ONE))
    assert wire.read_produce_by_id(raw.request(wire.PRODUCE, 13, body))[0][1:3] == (wire.NONE, 0)
    error, (answer,) = wire.read_fetch_by_id(raw.request(wire.FETCH, 13, wire.fetch_body_by_id(topic_id, 0, 0)))
    assert (error, wire.decode_batches(answer.records)[0].records) == (wire.NONE, [(0, ONE[0])])
    unknown = uuid.uuid4()
    (answer,) = wire.read_produce_by_id(raw.request(wire.PRODUCE, 13, wire.produce_body_by_id(unknown, 0, wire.record_batch(ONE))))
    assert answer.error == wire.UNKNOWN_TOPIC_ID
    error, answers = wire.read_fetch_by_id(raw.request(wire.FETCH, 13, wire.fetch_body_by_id(unknown, 0, 0)))
    assert error == wire.UNKNOWN_TOPIC_ID or [a.error for a in answers] == [wire.UNKNOWN_TOPIC_ID]
