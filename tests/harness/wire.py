"""A raw Kafka client: exact control over what goes onto the socket and when, for what no real client will do.

Owns the few requests the suites need, in fixed versions, and record batches of format 2. Encoders return `bytes`, so a
test can bend them before they are sent. It is not a client library: no retries, no metadata cache, no groups.
"""

import itertools
import socket
import struct
import time
import uuid
import zlib
from typing import NamedTuple

import cramjam
from crc32c import crc32c

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID = 18, 19, 20, 22
CREATE_PARTITIONS, DESCRIBE_CONFIGS, DESCRIBE_CLUSTER, DESCRIBE_TOPIC_PARTITIONS = 37, 32, 60, 75

# The first version of each API with the compact ("flexible") encoding and its longer header.
FLEXIBLE_FROM = {PRODUCE: 9, FETCH: 12, LIST_OFFSETS: 6, METADATA: 9, API_VERSIONS: 3, CREATE_TOPICS: 5, DELETE_TOPICS: 4, INIT_PRODUCER_ID: 2}
FLEXIBLE_FROM |= {CREATE_PARTITIONS: 2, DESCRIBE_CONFIGS: 4, DESCRIBE_CLUSTER: 0, DESCRIBE_TOPIC_PARTITIONS: 0}

NONE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION, MESSAGE_TOO_LARGE = 0, 2, 3, 10
OFFSET_OUT_OF_RANGE, INVALID_TOPIC, INVALID_REQUIRED_ACKS, UNSUPPORTED_VERSION, TOPIC_ALREADY_EXISTS = 1, 17, 21, 35, 36
INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_CONFIG, INVALID_REQUEST = 37, 38, 40, 42
INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH = 32, 45, 46, 47
UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD, UNKNOWN_TOPIC_ID = 76, 87, 100
INVALID_REPLICA_ASSIGNMENT, POLICY_VIOLATION, TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 39, 44, 53
FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR = 70, 71, 106
MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE = 114, 115

# A client asks again after these: no leader yet, not leader, timed out, coordinator loading, not available, moved.
RETRIABLE = {5, 6, 7, 14, 15, 16}

EARLIEST, LATEST, MAX_TIMESTAMP = -2, -1, -3

NO_CODEC, GZIP, SNAPPY, LZ4, ZSTD = range(5)


# ---------------------------------------------------------------------------------------------------- primitives


def i8(value):
    return struct.pack(">b", value)


def i16(value):
    return struct.pack(">h", value)


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def string(value):
    if value is None:
        return i16(-1)
    raw = value.encode()
    return i16(len(raw)) + raw


def blob(value):
    return i32(-1) if value is None else i32(len(value)) + value


def array(items):
    return i32(len(items)) + b"".join(items)


def uvarint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return uvarint((value << 1) ^ (value >> 63))


def compact_string(value):
    if value is None:
        return uvarint(0)
    raw = value.encode()
    return uvarint(len(raw) + 1) + raw


def compact_blob(value):
    return uvarint(len(value) + 1) + value


def compact_array(items):
    return uvarint(len(items) + 1) + b"".join(items)


NO_TAGS = b"\0"


class Reader:
    """Takes values off the front of an answer; the names are those of the encoders."""

    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def take(self, size):
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"answer ends early: {size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def unpack(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def i8(self):
        return self.unpack(">b")

    def i16(self):
        return self.unpack(">h")

    def i32(self):
        return self.unpack(">i")

    def i64(self):
        return self.unpack(">q")

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def varint(self):
        value = self.uvarint()
        return (value >> 1) ^ -(value & 1)

    def string(self):
        size = self.i16()
        return None if size < 0 else bytes(self.take(size)).decode()

    def blob(self):
        size = self.i32()
        return None if size < 0 else bytes(self.take(size))

    def array(self, item):
        return [item() for _ in range(max(self.i32(), 0))]

    def compact_string(self):
        size = self.uvarint()
        return None if size == 0 else bytes(self.take(size - 1)).decode()

    def compact_blob(self):
        size = self.uvarint()
        return None if size == 0 else bytes(self.take(size - 1))

    def compact_array(self, item):
        return [item() for _ in range(max(self.uvarint() - 1, 0))]

    def uuid(self):
        return uuid.UUID(bytes=bytes(self.take(16)))

    def tags(self):
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


# ------------------------------------------------------------------------------------------------- record batches


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple = ()
    timestamp: int = 0


def nullable(value):
    return varint(-1) if value is None else varint(len(value)) + value


def encode_record(record, offset_delta, base_timestamp):
    headers = b"".join(nullable(name.encode()) + nullable(value) for name, value in record.headers)
    body = (
        b"\0"
        + varint(record.timestamp - base_timestamp)
        + varint(offset_delta)
        + nullable(record.key)
        + nullable(record.value)
        + varint(len(record.headers))
        + headers
    )
    return varint(len(body)) + body


def compress(codec, data):
    if codec == GZIP:
        squeeze = zlib.compressobj(wbits=31)
        return squeeze.compress(data) + squeeze.flush()
    if codec == SNAPPY:
        return bytes(cramjam.snappy.compress_raw(data))
    if codec == LZ4:
        return lz4_frame(data)
    if codec == ZSTD:
        return bytes(cramjam.zstd.compress(data))
    return data


def lz4_frame(data):
    """Independent blocks, stored as they are: the only frames that every Kafka client reads."""
    blocks = [data[at : at + (64 << 10)] for at in range(0, len(data), 64 << 10)]
    stored = [struct.pack("<I", len(block) | 1 << 31) + block for block in blocks]
    return b"\x04\x22\x4d\x18\x60\x40\x82" + b"".join(stored) + b"\0\0\0\0"


def record_batch(records, codec=NO_CODEC, producer=(-1, -1, -1), **bent):
    """One batch of format 2. `producer` is (id, epoch, first sequence); `bent` overrides header fields with a lie:
    length, magic, crc, attributes, last_offset_delta, count."""
    first = min((r.timestamp for r in records), default=0)
    body = compress(codec, b"".join(encode_record(r, i, first) for i, r in enumerate(records)))
    return seal_batch(body, len(records), codec, producer, (first, max((r.timestamp for r in records), default=0)), bent)


def seal_batch(body, count, codec, producer, timestamps, bent):
    producer_id, epoch, sequence = producer
    covered = (
        i16(bent.get("attributes", codec))
        + i32(bent.get("last_offset_delta", count - 1))
        + i64(timestamps[0])
        + i64(timestamps[1])
        + i64(producer_id)
        + i16(epoch)
        + i32(sequence)
        + i32(bent.get("count", count))
        + body
    )
    crc = bent.get("crc", crc32c(covered))
    rest = i32(-1) + i8(bent.get("magic", 2)) + struct.pack(">I", crc) + covered
    return i64(0) + i32(bent.get("length", len(rest))) + rest


class Batch(NamedTuple):
    base_offset: int
    producer: tuple
    codec: int
    records: list  # of (offset, Record)


def decode_batches(data):
    """Every whole batch in the records field of a fetch answer; a cut one at the end is left out. Checks each CRC."""
    batches, at = [], 0
    while len(data) - at >= 61:
        base_offset, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        crc, attributes, _, base_time, _, producer_id, epoch, sequence, count = struct.unpack_from(">IhiqqqhiI", data, at + 17)
        body = data[at + 61 : at + 12 + length]
        assert crc == crc32c(data[at + 21 : at + 12 + length]), f"wrong CRC in the batch at offset {base_offset}"
        codec = attributes & 7
        reader = Reader(decompress(codec, body))
        records = [decode_record(reader, base_offset, base_time) for _ in range(count)]
        batches.append(Batch(base_offset, (producer_id, epoch, sequence), codec, records))
        at += 12 + length
    return batches


def decompress(codec, data):
    if codec == NO_CODEC:
        return data
    if codec == GZIP:
        return zlib.decompress(data, wbits=31)
    codecs = {SNAPPY: cramjam.snappy.decompress_raw, LZ4: cramjam.lz4.decompress, ZSTD: cramjam.zstd.decompress}
    return bytes(codecs[codec](data))


def decode_record(reader, base_offset, base_time):
    reader.varint()
    reader.i8()
    timestamp = base_time + reader.varint()
    offset = base_offset + reader.varint()
    key, value = read_nullable(reader), read_nullable(reader)
    headers = tuple((read_nullable(reader).decode(), read_nullable(reader)) for _ in range(reader.varint()))
    return offset, Record(key, value, headers, timestamp)


def read_nullable(reader):
    size = reader.varint()
    return None if size < 0 else bytes(reader.take(size))


# ------------------------------------------------------------------------------------------------------ requests


def request_frame(api, version, correlation, body, client_id="raw"):
    header = i16(api) + i16(version) + i32(correlation) + string(client_id)
    if version >= FLEXIBLE_FROM.get(api, 1 << 15):
        header += NO_TAGS
    return i32(len(header) + len(body)) + header + body


def produce_body(topic, partition, records, acks=-1, timeout_ms=30_000):
    """Produce 3 to 8 with one partition. `records` is the whole records field, or None for null."""
    return string(None) + i16(acks) + i32(timeout_ms) + array([string(topic) + array([i32(partition) + blob(records)])])


def produce_body_by_id(topic_id, partition, records, acks=-1):
    """Produce 13: the topic by its id."""
    entry = i32(partition) + compact_blob(records) + NO_TAGS
    topic = topic_id.bytes + compact_array([entry]) + NO_TAGS
    return compact_string(None) + i16(acks) + i32(30_000) + compact_array([topic]) + NO_TAGS


def fetch_body(topic, partitions, max_wait_ms=500, min_bytes=1, max_bytes=50 << 20, partition_max_bytes=10 << 20):
    """Fetch 4; `partitions` maps a partition to the offset wanted."""
    entries = [i32(p) + i64(offset) + i32(partition_max_bytes) for p, offset in partitions.items()]
    return i32(-1) + i32(max_wait_ms) + i32(min_bytes) + i32(max_bytes) + i8(0) + array([string(topic) + array(entries)])


def fetch_body_by_id(topic_id, partition, offset, max_wait_ms=500):
    """Fetch 13: the topic by its id, no fetch session."""
    entry = i32(partition) + i32(-1) + i64(offset) + i32(-1) + i64(-1) + i32(10 << 20) + NO_TAGS
    topic = topic_id.bytes + compact_array([entry]) + NO_TAGS
    limits = i32(-1) + i32(max_wait_ms) + i32(1) + i32(50 << 20) + i8(0)
    return limits + i32(0) + i32(-1) + compact_array([topic]) + compact_array([]) + compact_string("") + NO_TAGS


class PartitionAnswer(NamedTuple):
    partition: int
    error: int
    offset: int  # produce: the first offset; fetch: the high watermark
    records: bytes | None = None


def read_produce(reader, version):
    """Answers of Produce 0 to 8, as a flat list of partitions."""
    answers = []

    def partition():
        answers.append(PartitionAnswer(reader.i32(), reader.i16(), reader.i64()))
        if version >= 2:
            reader.i64()
        if version >= 5:
            reader.i64()
        if version >= 8:
            reader.array(lambda: (reader.i32(), reader.string()))
            reader.string()

    reader.array(lambda: (reader.string(), reader.array(partition)))
    return answers


def read_produce_by_id(reader):
    answers = []

    def partition():
        answers.append(PartitionAnswer(reader.i32(), reader.i16(), reader.i64()))
        reader.i64(), reader.i64()
        reader.compact_array(lambda: (reader.i32(), reader.compact_string(), reader.tags()))
        reader.compact_string()
        reader.tags()

    reader.compact_array(lambda: (reader.uuid(), reader.compact_array(partition), reader.tags()))
    return answers


def read_fetch(reader):
    """Answer of Fetch 4, as a flat list of partitions."""
    answers = []

    def partition():
        index, error, high_watermark = reader.i32(), reader.i16(), reader.i64()
        reader.i64()
        reader.array(lambda: (reader.i64(), reader.i64()))
        answers.append(PartitionAnswer(index, error, high_watermark, reader.blob()))

    reader.i32()
    reader.array(lambda: (reader.string(), reader.array(partition)))
    return answers


def read_fetch_by_id(reader):
    """(error of the whole answer, partitions) of Fetch 13."""
    answers = []

    def partition():
        index, error, high_watermark = reader.i32(), reader.i16(), reader.i64()
        reader.i64(), reader.i64()
        reader.compact_array(lambda: (reader.i64(), reader.i64(), reader.tags()))
        reader.i32()
        answers.append(PartitionAnswer(index, error, high_watermark, reader.compact_blob()))
        reader.tags()

    reader.i32()
    error = reader.i16()
    reader.i32()
    reader.compact_array(lambda: (reader.uuid(), reader.compact_array(partition), reader.tags()))
    return error, answers


class SessionAnswer(NamedTuple):
    error: int
    session: int
    partitions: dict  # (topic, partition) → PartitionAnswer
    size: int  # the whole answer, in bytes


def session_body(session, epoch, topics, forgotten, by_id, limits):
    """Fetch 7, or 13 by id: `topics` maps a topic to {partition: offset}, `forgotten` to a list of partitions."""
    max_wait_ms, min_bytes, max_bytes, partition_max_bytes = limits
    body = i32(-1) + i32(max_wait_ms) + i32(min_bytes) + i32(max_bytes) + i8(0) + i32(session) + i32(epoch)

    def wanted(partition, offset):
        if by_id:
            return i32(partition) + i32(-1) + i64(offset) + i32(-1) + i64(-1) + i32(partition_max_bytes) + NO_TAGS
        return i32(partition) + i64(offset) + i64(-1) + i32(partition_max_bytes)

    if by_id:
        wanted_topics = [t.bytes + compact_array([wanted(*p) for p in ps.items()]) + NO_TAGS for t, ps in topics.items()]
        gone = [t.bytes + compact_array([i32(p) for p in ps]) + NO_TAGS for t, ps in forgotten.items()]
        return body + compact_array(wanted_topics) + compact_array(gone) + compact_string("") + NO_TAGS
    wanted_topics = [string(t) + array([wanted(*p) for p in ps.items()]) for t, ps in topics.items()]
    return body + array(wanted_topics) + array([string(t) + array([i32(p) for p in ps]) for t, ps in forgotten.items()])


def read_session(reader, by_id):
    answers = {}
    array_of = reader.compact_array if by_id else reader.array

    def end():
        if by_id:
            reader.tags()

    def topic():
        name = reader.uuid() if by_id else reader.string()

        def partition():
            index, error, high_watermark = reader.i32(), reader.i16(), reader.i64()
            reader.i64(), reader.i64()
            array_of(lambda: (reader.i64(), reader.i64(), end()))
            if by_id:
                reader.i32()
            records = reader.compact_blob() if by_id else reader.blob()
            assert (name, index) not in answers, "one answer for each partition"
            answers[name, index] = PartitionAnswer(index, error, high_watermark, records or b"")
            end()

        array_of(partition)
        end()

    reader.i32()
    error, session = reader.i16(), reader.i32()
    array_of(topic)
    return SessionAnswer(error, session, answers, len(reader.data) + 4)


class TopicMetadata(NamedTuple):
    error: int
    name: str
    id: uuid.UUID
    partitions: dict  # partition → (error, leader, replicas)


class Closed(ConnectionError):
    """The server closed the connection where an answer was awaited."""


class Connection:
    """One socket to a server: frames out, answers back, in the order of the requests."""

    def __init__(self, address, timeout=60):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.numbers = itertools.count(1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, api, version, body):
        """Sends one request without waiting; returns its correlation id."""
        number = next(self.numbers)
        self.socket.sendall(request_frame(api, version, number, body))
        return number

    def receive(self):
        """The next answer, as (correlation id, reader behind the id)."""
        size = struct.unpack(">i", self.receive_exactly(4))[0]
        reader = Reader(self.receive_exactly(size))
        return reader.i32(), reader

    def receive_exactly(self, size):
        while len(self.buffer) < size:
            try:
                part = self.socket.recv(1 << 20)
            except ConnectionResetError as error:
                raise Closed("reset by the server") from error
            if not part:
                raise Closed("closed by the server")
            self.buffer += part
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def wait_closed(self):
        """Returns once the server has closed; an answer instead of that is an error, silence a timeout."""
        try:
            number, _ = self.receive()
        except Closed:
            return
        raise AssertionError(f"the server answered request {number} where it should have closed")

    def request(self, api, version, body):
        """Sends one request and waits for its answer; the reader stands behind the response header."""
        number = self.send(api, version, body)
        answered, reader = self.receive()
        assert answered == number, f"answer to request {answered} where {number} was due"
        if version >= FLEXIBLE_FROM.get(api, 1 << 15) and api != API_VERSIONS:
            reader.tags()
        return reader

    def api_versions(self, version=0):
        """(error, {api: (lowest, highest)}) of ApiVersions 0 to 2."""
        reader = self.request(API_VERSIONS, version, b"")
        error = reader.i16()
        return error, {key: (low, high) for key, low, high in reader.array(lambda: (reader.i16(), reader.i16(), reader.i16()))}

    def metadata(self, topics=None, create=False):
        """Topics by name from Metadata 12; None asks for all."""
        names = uvarint(0) if topics is None else compact_array([b"\0" * 16 + compact_string(t) + NO_TAGS for t in topics])
        reader = self.request(METADATA, 12, names + i8(create) + i8(0) + NO_TAGS)

        def partition():
            error, index, leader = reader.i16(), reader.i32(), reader.i32()
            reader.i32()
            replicas = reader.compact_array(reader.i32)
            reader.compact_array(reader.i32)
            reader.compact_array(reader.i32)
            reader.tags()
            return index, (error, leader, replicas)

        def topic():
            error, name, topic_id = reader.i16(), reader.compact_string(), reader.uuid()
            reader.i8()
            partitions = dict(reader.compact_array(partition))
            reader.i32()
            reader.tags()
            return TopicMetadata(error, name, topic_id, partitions)

        reader.i32()
        reader.compact_array(lambda: (reader.i32(), reader.compact_string(), reader.i32(), reader.compact_string(), reader.tags()))
        reader.compact_string(), reader.i32()
        return {t.name: t for t in reader.compact_array(topic)}

    def create_topics(self, topics, replication=1, configs=()):
        """Creates topics given as {name: partitions} by CreateTopics 4; returns {name: (error, message)}."""
        settings = array([string(name) + string(value) for name, value in configs])
        entries = [string(name) + i32(count) + i16(replication) + array([]) + settings for name, count in topics.items()]
        reader = self.request(CREATE_TOPICS, 4, array(entries) + i32(30_000) + i8(0))
        reader.i32()
        return {name: (error, text) for name, error, text in reader.array(lambda: (reader.string(), reader.i16(), reader.string()))}

    def delete_topics(self, names):
        """DeleteTopics 3; returns {name: error}."""
        reader = self.request(DELETE_TOPICS, 3, array([string(n) for n in names]) + i32(30_000))
        reader.i32()
        return dict(reader.array(lambda: (reader.string(), reader.i16())))

    def init_producer_id(self):
        """(id, epoch) from InitProducerId 1; a coordinator that is still loading is asked again."""
        deadline = time.monotonic() + 60
        while True:
            reader = self.request(INIT_PRODUCER_ID, 1, string(None) + i32(60_000))
            reader.i32()
            error, producer_id, epoch = reader.i16(), reader.i64(), reader.i16()
            if error == NONE:
                return producer_id, epoch
            assert error in RETRIABLE and time.monotonic() < deadline, f"InitProducerId answered error {error}"
            time.sleep(0.05)

    def produce(self, topic, partition, records, acks=-1):
        """Produce 7 of one records field; returns the partition's answer."""
        return read_produce(self.request(PRODUCE, 7, produce_body(topic, partition, records, acks)), 7)[0]

    def fetch(self, topic, partitions, **limits):
        return read_fetch(self.request(FETCH, 4, fetch_body(topic, partitions, **limits)))

    def fetch_session(self, session, epoch, topics=None, forgotten=None, by_id=False, **limits):
        """A fetch within a session (KIP-227); see `session_body`."""
        given = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 50 << 20, "partition_max_bytes": 10 << 20} | limits
        body = session_body(session, epoch, topics or {}, forgotten or {}, by_id, given.values())
        return read_session(self.request(FETCH, 13 if by_id else 7, body), by_id)

    def create_partitions(self, topics, validate_only=False, version=3):
        """CreatePartitions 1 or 3 of [(name, total, assignments or None)]; returns [(name, error, message)]."""
        flexible = version >= 2
        many, text, end = (compact_array, compact_string, NO_TAGS) if flexible else (array, string, b"")

        def assigned(assignments):
            if assignments is None:
                return uvarint(0) if flexible else i32(-1)
            return many([many([i32(b) for b in brokers]) + end for brokers in assignments])

        entries = [text(name) + i32(total) + assigned(assignments) + end for name, total, assignments in topics]
        reader = self.request(CREATE_PARTITIONS, version, many(entries) + i32(30_000) + i8(validate_only) + end)
        reader.i32()
        read_text, read_many = (reader.compact_string, reader.compact_array) if flexible else (reader.string, reader.array)
        return read_many(lambda: (read_text(), reader.i16(), read_text(), flexible and reader.tags())[:3])

    def describe_cluster(self, version=2, endpoint_type=1):
        """(error, message, cluster id, controller, {broker: (host, port)}) of DescribeCluster."""
        body = i8(0) + (i8(endpoint_type) if version >= 1 else b"") + (i8(0) if version >= 2 else b"") + NO_TAGS
        reader = self.request(DESCRIBE_CLUSTER, version, body)

        def broker():
            number, host, port = reader.i32(), reader.compact_string(), reader.i32()
            reader.compact_string()
            if version >= 2:
                assert reader.i8() == 0, "not fenced"
            reader.tags()
            return number, (host, port)

        reader.i32()
        error, message = reader.i16(), reader.compact_string()
        if version >= 1:
            reader.i8()
        return error, message, reader.compact_string(), reader.i32(), dict(reader.compact_array(broker))

    def describe_topic_partitions(self, topics=(), limit=2000, cursor=None):
        """([(error, name, id, [partition])], next cursor or None) of DescribeTopicPartitions 0."""
        at = i8(-1) if cursor is None else i8(1) + compact_string(cursor[0]) + i32(cursor[1]) + NO_TAGS
        names = compact_array([compact_string(name) + NO_TAGS for name in topics])
        reader = self.request(DESCRIBE_TOPIC_PARTITIONS, 0, names + i32(limit) + at + NO_TAGS)

        def partition():
            error, index, leader, epoch = reader.i16(), reader.i32(), reader.i32(), reader.i32()
            replicas, in_sync = reader.compact_array(reader.i32), reader.compact_array(reader.i32)
            _, _, offline = (reader.compact_array(reader.i32) for _ in range(3))
            reader.tags()
            assert (error, epoch, replicas, in_sync, offline) == (NONE, 0, [leader], [leader], [])
            return index

        def topic():
            error, name, topic_id = reader.i16(), reader.compact_string(), reader.uuid()
            reader.i8()
            partitions = reader.compact_array(partition)
            reader.i32()
            reader.tags()
            return error, name, topic_id, partitions

        reader.i32()
        found = reader.compact_array(topic)
        return found, (reader.compact_string(), reader.i32()) if reader.i8() == 1 else None

    def describe_configs(self, kind, name, keys=None):
        """(error, {setting: (value, read only, source, type, [synonym])}) of DescribeConfigs 4; kind 2: topic, 4: broker."""
        wanted = uvarint(0) if keys is None else compact_array([compact_string(key) for key in keys])
        body = compact_array([i8(kind) + compact_string(name) + wanted + NO_TAGS]) + i8(1) + i8(1) + NO_TAGS
        reader = self.request(DESCRIBE_CONFIGS, 4, body)

        def synonym():
            name = reader.compact_string()
            reader.compact_string(), reader.i8(), reader.tags()
            return name

        def setting():
            name, value, read_only, source = reader.compact_string(), reader.compact_string(), reader.i8(), reader.i8()
            reader.i8()
            synonyms, kind = reader.compact_array(synonym), reader.i8()
            reader.compact_string(), reader.tags()
            return name, (value, bool(read_only), source, kind, synonyms)

        reader.i32()
        ((error, settings),) = reader.compact_array(
            lambda: (reader.i16(), (reader.compact_string(), reader.i8(), reader.compact_string(), dict(reader.compact_array(setting)), reader.tags())[3])
        )
        return error, settings

    def list_offset(self, topic, partition, timestamp):
        """(error, timestamp, offset) from ListOffsets 1."""
        reader = self.request(LIST_OFFSETS, 1, i32(-1) + array([string(topic) + array([i32(partition) + i64(timestamp)])]))
        answer = []
        reader.array(lambda: (reader.string(), reader.array(lambda: answer.append((reader.i32(), reader.i16(), reader.i64(), reader.i64())))))
        return answer[0][1:]
