"""Topics made, refused, deleted and made again, through the admin client and through raw requests."""

import threading

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
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


# ------------------------------------------------------------------------------------------- what there is, described


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_cluster_is_described(server, raw, version):
    error, message, cluster, controller, brokers = raw.describe_cluster(version)
    assert (error, message, list(brokers.values())) == (wire.NONE, None, [(server.address[0], server.address[1])])
    assert controller in brokers and cluster


@pytest.mark.parametrize("endpoint_type, expected", [(2, wire.MISMATCHED_ENDPOINT_TYPE), (9, wire.UNSUPPORTED_ENDPOINT_TYPE)])
def test_only_brokers_are_described(raw, endpoint_type, expected):
    error, message, *_ = raw.describe_cluster(1, endpoint_type)
    assert error == expected and message


def test_partitions_are_described_page_by_page(server, raw, topic_name):
    names = sorted(f"{topic_name}-{letter}" for letter in "abc")
    for name in names:
        server.create_topic(name, 3)
    ids = {name: topic.id for name, topic in raw.metadata(names).items()}
    whole, cursor = raw.describe_topic_partitions(reversed(names))
    assert whole == [(wire.NONE, name, ids[name], [0, 1, 2]) for name in names] and cursor is None

    pages, cursor = [], None
    while cursor is not None or not pages:
        found, cursor = raw.describe_topic_partitions(names, limit=4, cursor=cursor)
        pages.append([(name, partitions) for _, name, _, partitions in found])
    a, b, c = names
    assert pages == [[(a, [0, 1, 2]), (b, [0])], [(b, [1, 2]), (c, [0, 1])], [(c, [2])]]

    _, cursor = raw.describe_topic_partitions(names, limit=3)
    assert cursor == (b, 0), "a page that is full at the end of a topic"
    found, cursor = raw.describe_topic_partitions(names, cursor=(c, 7))
    assert [(name, partitions) for _, name, _, partitions in found] == [(c, [])] and cursor is None
    found, _ = raw.describe_topic_partitions(names, limit=-1)
    assert [partitions for *_, partitions in found] == [[0]]
    everything, _ = raw.describe_topic_partitions()
    described = [name for _, name, *_ in everything]
    assert set(names) <= set(described) and described == sorted(described)


def test_what_cannot_be_described_has_its_error(server, raw, topic_name):
    server.create_topic(topic_name, 1)
    found, _ = raw.describe_topic_partitions([topic_name, topic_name + "-no", "a b"])
    errors = {name: error for error, name, *_ in found}
    assert errors == {topic_name: wire.NONE, topic_name + "-no": wire.UNKNOWN_TOPIC_OR_PARTITION, "a b": wire.INVALID_TOPIC}
    for cursor in ((topic_name, -1), (topic_name + "-no", 0)):
        found, _ = raw.describe_topic_partitions([topic_name], cursor=cursor)
        assert [error for error, *_ in found] == [wire.INVALID_REQUEST]


def test_a_topics_settings_have_sources_types_and_synonyms(server, raw, topic_name):
    server.create_topic(topic_name, 1, max_message_bytes=2_000_000)
    error, settings = raw.describe_configs(2, topic_name)
    assert error == wire.NONE
    value, read_only, source, kind, synonyms = settings["max.message.bytes"]
    assert (value, read_only, source, kind, synonyms[0]) == ("2000000", False, 1, 3, "max.message.bytes")
    assert "message.max.bytes" in synonyms
    assert settings["cleanup.policy"][3:] == (7, ["log.cleanup.policy"]) and settings["message.timestamp.type"][3] == 2
    assert set(raw.describe_configs(2, topic_name, ["retention.ms", "no.such"])[1]) == {"retention.ms"}
    assert raw.describe_configs(2, topic_name, [])[1].keys() == settings.keys()
    assert raw.describe_configs(2, topic_name + "-no") == (wire.UNKNOWN_TOPIC_OR_PARTITION, {})
    assert raw.describe_configs(2, "a b") == (wire.INVALID_TOPIC, {})


def test_a_brokers_settings_are_what_tools_ask_for(raw):
    _, _, _, controller, _ = raw.describe_cluster()
    error, settings = raw.describe_configs(4, str(controller))
    assert error == wire.NONE
    values = {name: value for name, (value, *_) in settings.items()}
    assert values["node.id"] == str(controller) and values["delete.topic.enable"] == "true"
    assert values["auto.create.topics.enable"] in ("true", "false") and int(values["num.partitions"]) > 0
    assert values["message.max.bytes"] == "1048588" and values["log.cleanup.policy"] == "delete"
    assert settings["node.id"][1] and settings["node.id"][3] == 3, "read-only, a number"
    assert raw.describe_configs(4, "")[0] == wire.NONE, "what is set for all brokers together: next to nothing"
    for other in ("77", "not-a-number"):
        assert raw.describe_configs(4, other) == (wire.INVALID_REQUEST, {})


# ------------------------------------------------------------------------------------------------ adding partitions


@pytest.mark.parametrize("version", [1, 3])
def test_a_topic_gets_more_partitions(server, raw, topic_name, version):
    server.create_topic(topic_name, 2)
    records = [wire.Record(None, b"v")]
    raw.produce(topic_name, 1, wire.record_batch(records))
    before = raw.metadata([topic_name])[topic_name]
    assert raw.fetch(topic_name, {4: 0}, max_wait_ms=0)[0].error == wire.UNKNOWN_TOPIC_OR_PARTITION
    assert [error for _, error, _ in raw.create_partitions([(topic_name, 5, None)], version=version)] == [wire.NONE]
    server.wait_writable(raw, topic_name, 5)
    after = raw.metadata([topic_name])[topic_name]
    assert after.id == before.id and sorted(after.partitions) == [0, 1, 2, 3, 4]
    assert raw.describe_topic_partitions([topic_name])[0][0][3] == [0, 1, 2, 3, 4]
    answer = raw.produce(topic_name, 4, wire.record_batch(records))
    assert (answer.error, answer.offset) == (wire.NONE, 0)
    assert [(a.partition, a.error, a.offset) for a in raw.fetch(topic_name, {1: 1, 4: 1}, max_wait_ms=0)] == [(1, 0, 1), (4, 0, 1)]
    assert [raw.list_offset(topic_name, p, wire.LATEST)[2] for p in range(5)] == [0, 1, 0, 0, 1]
    assert raw.list_offset(topic_name, 5, wire.LATEST)[0] == wire.UNKNOWN_TOPIC_OR_PARTITION


def test_a_session_goes_on_with_partitions_that_are_added(server, raw, topic_name):
    server.create_topic(topic_name, 1)
    opened = raw.fetch_session(0, 0, {topic_name: {0: 0, 1: 0}})
    assert opened.partitions[topic_name, 1].error == wire.UNKNOWN_TOPIC_OR_PARTITION
    assert raw.create_partitions([(topic_name, 2, None)])[0][1] == wire.NONE
    server.wait_writable(raw, topic_name, 2)
    raw.produce(topic_name, 1, wire.record_batch([wire.Record(None, b"v")]))
    answer = raw.fetch_session(opened.session, 1, max_wait_ms=30_000)
    assert {key: (told.error, told.offset) for key, told in answer.partitions.items()} == {(topic_name, 1): (wire.NONE, 1)}


def test_no_partitions_are_added_where_it_is_refused(server, raw, topic_name):
    server.create_topic(topic_name, 3)
    (broker,) = {leader for _, leader, _ in raw.metadata([topic_name])[topic_name].partitions.values()}

    def refused(count, assignments=None, name=topic_name):
        ((_, error, message),) = raw.create_partitions([(name, count, assignments)])
        assert error != wire.NONE
        return error, message or ""

    for count in (3, 2, 0, -1):
        error, message = refused(count)
        assert error == wire.INVALID_PARTITIONS and "3 partition" in message
    assert refused(4, name=topic_name + "-no")[0] == wire.UNKNOWN_TOPIC_OR_PARTITION
    for assignments in ([], [[broker]], [[broker], [broker], [broker]], [[broker], []], [[broker], [broker, broker]]):
        assert refused(5, assignments)[0] == wire.INVALID_REPLICA_ASSIGNMENT
    twice = raw.create_partitions([(topic_name, 4, None), (topic_name, 5, None)])
    assert [(name, error) for name, error, _ in twice] == [(topic_name, wire.INVALID_REQUEST)]
    assert raw.create_partitions([(topic_name, 4, None)], validate_only=True)[0][1] == wire.NONE
    assert raw.create_partitions([(topic_name, 3, None)], validate_only=True)[0][1] == wire.INVALID_PARTITIONS
    assert len(raw.metadata([topic_name])[topic_name].partitions) == 3, "nothing was added"
    assert raw.create_partitions([(topic_name, 5, [[broker], [broker]])])[0][1] == wire.NONE
    wait_until(lambda: len(raw.metadata([topic_name])[topic_name].partitions) == 5, "an assignment counts as it should")


@pytest.mark.ours("Kafka has no such limit")
def test_more_partitions_than_a_topic_may_have(server, raw, topic_name):
    server.create_topic(topic_name, 1)
    ((_, error, message),) = raw.create_partitions([(topic_name, 100_001, None)])
    assert error == wire.POLICY_VIOLATION and "100000" in message


def test_clients_find_partitions_that_are_added(server, admin, topic_name):
    server.create_topic(topic_name, 1)
    writer = librdkafka.producer(server, topic_metadata_refresh_interval_ms=100)
    reader = librdkafka.consumer(server, topic_metadata_refresh_interval_ms=100)
    admin.create_partitions([NewPartitions(topic_name, 3)])[topic_name].result(30)
    known = lambda client: len(client.list_topics(topic_name, 10).topics[topic_name].partitions)  # noqa: E731
    wait_until(lambda: known(writer) == known(reader) == 3, "both have heard of it")
    for partition in range(3):
        writer.produce(topic_name, value=bytes([partition]), partition=partition)
    assert writer.flush(30) == 0
    reader.assign([TopicPartition(topic_name, partition, 0) for partition in range(3)])
    assert {(e.partition, e.value) for e in librdkafka.read(reader, 3)} == {(p, bytes([p])) for p in range(3)}
    reader.close()
