"""confluent-kafka (librdkafka in C) as the suites use it: partitions by hand, no consumer groups."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from .dataset import Entry

# Only what makes librdkafka unusable: servers come and go here.
QUIET = 2


def producer(server, **settings):
    config = {"bootstrap.servers": server.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "log_level": QUIET}
    return Producer(config | dotted(settings))


def consumer(server, **settings):
    config = {
        "bootstrap.servers": server.bootstrap,
        "log_level": QUIET,
        # librdkafka wants a name here, also where no group is ever joined and nothing is committed.
        "group.id": "no-group",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
    }
    return Consumer(config | dotted(settings))


def dotted(settings):
    return {key if key.endswith("_cb") else key.replace("_", "."): value for key, value in settings.items()}


def produce(server, topic, entries, acknowledged=True, **settings):
    """Writes the entries; every record must be confirmed, with the offset the entry says unless acks=0."""
    wrong = []

    def check(entry):
        def report(error, message):
            if error or (acknowledged and message.offset() != entry.offset):
                wrong.append((entry.partition, entry.offset, error or message.offset()))

        return report

    sender = producer(server, **settings)
    for i, entry in enumerate(entries):
        sender.produce(
            topic,
            value=entry.value,
            key=entry.key,
            partition=entry.partition,
            on_delivery=check(entry),
            timestamp=entry.timestamp,
            headers=list(entry.headers) or None,
        )
        if i % 1000 == 0:
            sender.poll(0)
    left = sender.flush(120)
    assert left == 0, f"{left} records of {len(entries)} had no answer after two minutes"
    assert not wrong, f"{len(wrong)} records were refused or misplaced, first {wrong[:3]}"


def consume(server, topic, count, partitions=3, seconds=120, **settings):
    """Reads `count` records from the beginning of the partitions."""
    reader = consumer(server, **settings)
    try:
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
        return read(reader, count, seconds)
    finally:
        reader.close()


def read(reader, count, seconds=120):
    entries, deadline = [], time.monotonic() + seconds
    while len(entries) < count:
        for message in reader.consume(10_000, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            entries.append(entry(message))
        assert time.monotonic() < deadline, f"{len(entries)} records of {count} after {seconds} s"
    return entries


def entry(message):
    return Entry(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )
