"""Topics made, refused, deleted and made again, through the admin client and through raw requests."""

import threading

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from harness import librdkafka, wire
from harness.server import wait_until


@pytest.fixture
def admin(server):
    return AdminClient({"bootstrap.servers": server.bootstrap})


@pytest.fixture
def raw(server):
    with server.connect() as connection:
        yield connection


@pytest.mark.ours("one Kafka broker cannot hold three replicas; here the store replicates")
def test_any_replication_factor_is_taken_and_reported_as_one(server, raw, topic_name):
    assert raw.create_topics({topic_name: 2}, replication=3)[topic_name][0] == wire.NONE
    partitions = raw.metadata([topic_name])[topic_name].partitions
    assert [len(replicas) for _, _, replicas in partitions.values()] == [1, 1]


def test_an_unknown_config_is_refused_by_name(admin, raw, topic_name):
    topic = NewTopic(topic_name, 1, 1, config={"no.such.config": "1"})
    with pytest.raises(KafkaException) as caught:
        admin.create_topics([topic])[topic_name].result(30)
    assert caught.value.args[0].code() == wire.INVALID_CONFIG
    assert "no.such.config" in caught.value.args[0].str()
    assert raw.metadata([topic_name])[topic_name].error == wire.UNKNOWN_TOPIC_OR_PARTITION, "nothing was made"


@pytest.mark.ours("Kafka honours it")
def test_a_config_that_is_not_yet_honoured_is_refused_by_name(raw, topic_name):
    error, message = raw.create_topics({topic_name: 1}, configs=[("cleanup.policy", "compact")])[topic_name]
    assert error == wire.INVALID_CONFIG and "cleanup.policy" in message


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a\\b", "a:b", "müll", "a\0b", "x" * 250], ids=repr)
def test_an_invalid_name_is_refused_everywhere(raw, name):
    assert raw.create_topics({name: 1})[name][0] == wire.INVALID_TOPIC
    assert raw.metadata([name], create=True)[name].error == wire.INVALID_TOPIC


def test_the_longest_name(server):
    server.create_topic("x" * 249)


def test_names_that_differ_only_in_dot_and_underscore_collide(server, raw, topic_name):
    server.create_topic(f"{topic_name}.a_b")
    other = f"{topic_name}_a.b"
    error, message = raw.create_topics({other: 1})[other]
    assert error == wire.INVALID_TOPIC and "collides" in message


@pytest.mark.parametrize(
    "partitions, replication, error",
    [(0, 1, wire.INVALID_PARTITIONS), (-2, 1, wire.INVALID_PARTITIONS), (1, 0, wire.INVALID_REPLICATION_FACTOR), (-1, -1, wire.NONE)],
)
def test_numbers_of_partitions_and_replicas(raw, topic_name, partitions, replication, error):
    assert raw.create_topics({topic_name: partitions}, replication=replication)[topic_name][0] == error


def test_a_topic_is_made_once(server, raw, topic_name):
    server.create_topic(topic_name)
    assert raw.create_topics({topic_name: 1})[topic_name][0] == wire.TOPIC_ALREADY_EXISTS


def test_the_same_name_twice_in_one_request_makes_nothing(raw, topic_name):
    entry = wire.string(topic_name) + wire.i32(1) + wire.i16(1) + wire.array([]) + wire.array([])
    reader = raw.request(wire.CREATE_TOPICS, 4, wire.array([entry, entry]) + wire.i32(30_000) + wire.i8(0))
    reader.i32()
    answers = reader.array(lambda: (reader.string(), reader.i16(), reader.string()))
    assert {error for _, error, _ in answers} == {wire.INVALID_REQUEST}
    assert raw.metadata([topic_name])[topic_name].error == wire.UNKNOWN_TOPIC_OR_PARTITION


def test_validate_only_makes_nothing(admin, raw, topic_name):
    admin.create_topics([NewTopic(topic_name, 1, 1)], validate_only=True)[topic_name].result(30)
    assert raw.metadata([topic_name])[topic_name].error == wire.UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_that_is_not_there_cannot_be_deleted(raw, topic_name):
    assert raw.delete_topics([topic_name])[topic_name] == wire.UNKNOWN_TOPIC_OR_PARTITION


def test_a_deleted_topic_is_gone_at_once(server, raw, topic_name):
    server.create_topic(topic_name)
    assert raw.delete_topics([topic_name])[topic_name] == wire.NONE
    wait_until(lambda: raw.metadata([topic_name])[topic_name].error == wire.UNKNOWN_TOPIC_OR_PARTITION, "the topic is gone")
    batch = wire.record_batch([wire.Record(None, b"v")])
    assert raw.produce(topic_name, 0, batch).error == wire.UNKNOWN_TOPIC_OR_PARTITION
    assert raw.fetch(topic_name, {0: 0})[0].error == wire.UNKNOWN_TOPIC_OR_PARTITION


class Writer:
    """An idempotent producer that writes numbered records without a pause, and what became of each."""

    def __init__(self, server, topic):
        self.topic = topic
        self.producer = librdkafka.producer(server, enable_idempotence=True, linger_ms=1, topic_metadata_refresh_interval_ms=500)
        self.handed, self.confirmed, self.failed = 0, [], []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.done.is_set():
            number = self.handed
            try:
                self.producer.produce(self.topic, b"%d" % number, partition=0, on_delivery=self.report(number))
                self.handed += 1
            except (BufferError, KafkaException):
                pass
            self.producer.poll(0.0005)
        self.producer.flush(60)

    def report(self, number):
        def keep(error, _message):
            if error:
                self.failed.append((number, error))
            else:
                self.confirmed.append(number)

        return keep

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def test_an_idempotent_producer_goes_on_through_delete_and_create(server, admin, topic_name):
    server.create_topic(topic_name)
    with Writer(server, topic_name) as writer:
        for _ in range(3):
            wait_until(lambda: len(writer.confirmed) > 500, "the producer writes", 60)
            old = topic_id(server, topic_name)
            admin.delete_topics([topic_name])[topic_name].result(30)
            try_to_create(admin, topic_name)
            wait_until(lambda: topic_id(server, topic_name) not in (None, old), "the topic is there again")
            new_from = writer.handed
            wait_until(lambda: sum(n >= new_from for n in writer.confirmed[:]) > 500, "the producer goes on in the new topic", 90)
    with server.connect() as connection:
        count = connection.list_offset(topic_name, 0, wire.LATEST)[2]
    read = [int(e.value) for e in librdkafka.consume(server, topic_name, count, partitions=1)]
    assert read == sorted(set(read)), "no record twice, none out of order"
    lost = {n for n in writer.confirmed if n >= new_from} - set(read)
    assert not lost, f"{len(lost)} confirmed records are not there, first {min(lost)}"


def topic_id(server, name):
    with server.connect() as connection:
        topic = connection.metadata([name])[name]
        return topic.id if topic.error == wire.NONE else None


def try_to_create(admin, name):
    """Makes the topic, unless the producer's own look-up of it was quicker and made it."""
    try:
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    except KafkaException as error:
        assert error.args[0].code() == wire.TOPIC_ALREADY_EXISTS, error
