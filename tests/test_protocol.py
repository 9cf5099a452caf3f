"""What goes over the socket, byte by byte: versions, bad batches, lengths that lie. Each gets Kafka's error code or a
closed connection, and the server goes on."""

import itertools
import socket
import struct
import uuid

import pytest
from harness import dataset, wire
from harness.limits import LARGEST_BATCH, LARGEST_SINGLE_VALUE
from harness.server import wait_until
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


# --------------------------------------------------------------------------------------- fetch sessions (KIP-227)


def values(answer):
    return [record.value for batch in wire.decode_batches(answer.records) for _, record in batch.records]


@pytest.fixture(params=["by name", "by id"])
def session(request, raw, topic):
    """Fetches of one topic of two partitions, in sessions, in a version with names or with ids."""
    by_id = request.param == "by id"
    key = raw.metadata([topic])[topic].id if by_id else topic

    class Session:
        produce = staticmethod(lambda partition, value: raw.produce(topic, partition, wire.record_batch([Record(None, value)])))

        @staticmethod
        def fetch(number, epoch, offsets=None, forgotten=None, **limits):
            topics, gone = ({key: given} if given else {} for given in (offsets, forgotten))
            answer = raw.fetch_session(number, epoch, topics, gone, by_id, **limits)
            return answer._replace(partitions={partition: told for (_, partition), told in answer.partitions.items()})

    return Session


def test_a_session_is_answered_with_what_has_changed(session):
    opened = session.fetch(0, 0, {0: 0, 1: 0})
    assert opened.error == wire.NONE and opened.session > 0 and set(opened.partitions) == {0, 1}
    assert session.fetch(opened.session, 1).partitions == {}
    session.produce(1, b"a")
    answer = session.fetch(opened.session, 2)
    assert (answer.session, set(answer.partitions), values(answer.partitions[1])) == (opened.session, {1}, [b"a"])
    assert set(session.fetch(opened.session, 3).partitions) == {1}, "the client did not go on: it is told again"
    assert session.fetch(opened.session, 4, {1: 1}).partitions == {}
    session.produce(0, b"b")
    session.produce(1, b"c")
    answer = session.fetch(opened.session, 5)
    assert {p: values(told) for p, told in answer.partitions.items()} == {0: [b"b"], 1: [b"c"]}


def test_a_forgotten_partition_is_not_told_and_comes_back_when_it_is_wanted(session):
    number = session.fetch(0, 0, {0: 0, 1: 0}).session
    session.produce(0, b"a")
    session.produce(1, b"b")
    assert set(session.fetch(number, 1, forgotten=[0]).partitions) == {1}
    assert set(session.fetch(number, 2, {0: 0, 1: 1}).partitions) == {0}
    answer = session.fetch(number, 3, forgotten=[0, 1])
    assert (answer.error, answer.session, answer.partitions) == (wire.NONE, 0, {}), "an empty session is over"
    assert session.fetch(number, 4).error == wire.FETCH_SESSION_ID_NOT_FOUND


def test_a_new_high_watermark_is_told_without_records(session):
    session.produce(0, b"a")
    number = session.fetch(0, 0, {0: 0, 1: 0}).session
    session.produce(0, b"b")
    answer = session.fetch(number, 1, {0: 2})
    assert [(p, told.offset, told.records) for p, told in answer.partitions.items()] == [(0, 2, b"")]
    assert session.fetch(number, 2).partitions == {}


def test_an_error_is_told_until_it_is_over(session):
    number = session.fetch(0, 0, {0: 0, 1: 0}).session
    for epoch in (1, 2):
        answer = session.fetch(number, epoch, {0: 99}, max_wait_ms=30_000)
        assert {p: told.error for p, told in answer.partitions.items()} == {0: wire.OFFSET_OUT_OF_RANGE}
    assert {p: told.error for p, told in session.fetch(number, 3, {0: 0}).partitions.items()} == {0: wire.NONE}
    assert session.fetch(number, 4).partitions == {}


def test_wrong_epochs_and_sessions(session):
    assert session.fetch(0, 5).error == wire.FETCH_SESSION_ID_NOT_FOUND
    number = session.fetch(0, 0, {0: 0}).session
    for epoch in (2, 0x7FFFFFFF, -2):
        answer = session.fetch(number, epoch)
        assert (answer.error, answer.session, answer.partitions) == (wire.INVALID_FETCH_SESSION_EPOCH, 0, {})
    assert session.fetch(number ^ 1, 1).error == wire.FETCH_SESSION_ID_NOT_FOUND
    assert session.fetch(number, 1).error == wire.NONE, "what was refused has not changed it"
    assert session.fetch(number, 1).error == wire.INVALID_FETCH_SESSION_EPOCH, "each epoch counts once"
    once = session.fetch(number, -1, {0: 0})
    assert (once.error, once.session, set(once.partitions)) == (wire.NONE, 0, {0})
    assert session.fetch(number, 2).error == wire.FETCH_SESSION_ID_NOT_FOUND, "a full fetch closes the session that it names"
    first = session.fetch(0, 0, {0: 0}).session
    assert session.fetch(first, 0, {0: 0}).session not in (0, first)
    assert session.fetch(first, 1).error == wire.FETCH_SESSION_ID_NOT_FOUND


def test_a_session_keeps_to_names_or_ids(raw, topic):
    topic_id = raw.metadata([topic])[topic].id
    by_name = raw.fetch_session(0, 0, {topic: {0: 0}}).session
    by_id = raw.fetch_session(0, 0, {topic_id: {0: 0}}, by_id=True).session
    assert raw.fetch_session(by_name, 1, by_id=True).error == wire.FETCH_SESSION_TOPIC_ID_ERROR
    assert raw.fetch_session(by_id, 1).error == wire.FETCH_SESSION_TOPIC_ID_ERROR
    assert raw.fetch_session(by_name, 1).error == raw.fetch_session(by_id, 1, by_id=True).error == wire.NONE


def test_what_gave_records_waits_for_its_turn(session):
    for value in (b"a", b"b", b"c"):
        session.produce(0, value * 1000)
        session.produce(1, value * 1000)
    number, order = session.fetch(0, 0, {0: 0, 1: 0}, max_bytes=1).session, []
    for epoch in range(1, 5):
        told = session.fetch(number, epoch, max_bytes=1).partitions
        order += [partition for partition, answer in told.items() if answer.records]
    assert order in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_a_session_sleeps_until_something_changes(server, raw, topic):
    number = raw.fetch_session(0, 0, {topic: {0: 0, 1: 0}}).session
    waiting = raw.send(wire.FETCH, 7, wire.session_body(number, 1, {}, {}, False, (30_000, 1, 1 << 20, 1 << 20)))
    with server.connect() as writer:
        writer.produce(topic, 1, wire.record_batch(ONE))
    answered, reader = raw.receive()
    assert answered == waiting and set(wire.read_session(reader, False).partitions) == {(topic, 1)}


def test_a_thousand_unchanged_partitions_answer_in_under_100_bytes(server, raw, topic_name):
    server.create_topic(topic_name, 1000)
    topic_id = raw.metadata([topic_name])[topic_name].id
    opened = raw.fetch_session(0, 0, {topic_id: dict.fromkeys(range(1000), 0)}, by_id=True)
    assert len(opened.partitions) == 1000
    answer = raw.fetch_session(opened.session, 1, by_id=True, max_wait_ms=100)
    assert answer.partitions == {} and answer.size < 100
    raw.produce(topic_name, 567, wire.record_batch(ONE))
    answer = raw.fetch_session(opened.session, 2, by_id=True, max_wait_ms=30_000)
    assert set(answer.partitions) == {(topic_id, 567)} and answer.size < 250


def test_a_session_by_name_goes_on_with_the_next_topic_of_the_name(server, raw, topic):
    raw.produce(topic, 0, wire.record_batch(ONE))
    number = raw.fetch_session(0, 0, {topic: {0: 1}}).session
    assert raw.delete_topics([topic])[topic] == wire.NONE
    epoch = itertools.count(1)

    def told():
        return raw.fetch_session(number, next(epoch), {topic: {0: 0}}).partitions[topic, 0]

    wait_until(lambda: told().error == wire.UNKNOWN_TOPIC_OR_PARTITION, "the deletion is told")
    server.create_topic(topic, 2)
    wait_until(lambda: (answer := told()).error == wire.NONE and answer.offset == 0 or answer.records, "the new topic is read")


@pytest.mark.ours("Kafka bounds sessions alone, not their memory")
def test_ten_thousand_sessions_stay_within_their_memory(new_server, topic_name):
    server = new_server().start()  # one of its own: for two minutes nobody else gets a session there
    server.create_topic(topic_name, 2000)
    raw = server.connect()
    topic_id = raw.metadata([topic_name])[topic_name].id
    wanted = {topic_id: dict.fromkeys(range(2000), 0)}
    before, given = server.resident_bytes(), 0
    for _ in range(200):
        given += raw.fetch_session(0, 0, wanted, by_id=True).session != 0
    assert given <= 70, "2,000 partitions count for a megabyte, of 64"
    for _ in range(10_000):
        given += raw.fetch_session(0, 0, {topic_id: {0: 0}}, by_id=True).session != 0
    assert given <= 1000
    assert server.resident_bytes() - before < 150 << 20
    answer = raw.fetch_session(0, 0, {topic_id: {0: 0}}, by_id=True)
    assert (answer.error, answer.session, len(answer.partitions)) == (wire.NONE, 0, 1), "without a session it is answered as well"
