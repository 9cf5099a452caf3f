"""The clients written in Python alone, which use older versions of the protocol than librdkafka and Java do."""

import asyncio
import time

import pytest
from harness import dataset

PARTITIONS = 3


@pytest.fixture(scope="module")
def entries():
    # Neither client takes a null header value.
    all_entries = dataset.reference_entries(100_000, PARTITIONS, seed=4)
    return [e._replace(headers=tuple((k, v) for k, v in e.headers if v is not None)) for e in all_entries]


def as_entry(message):
    pairs = tuple((name, value) for name, value in message.headers)
    return dataset.Entry(message.partition, message.offset, message.timestamp, message.key, message.value, pairs)


@pytest.mark.client("aiokafka")
@pytest.mark.scenario("every record comes back as it went")
@pytest.mark.parametrize("codec", [None, "zstd"])
def test_aiokafka(server, topic_name, entries, codec):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    server.create_topic(topic_name, PARTITIONS)

    async def write():
        producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, compression_type=codec, enable_idempotence=True, linger_ms=5)
        async with producer:
            sent = [await producer.send(topic_name, e.value, e.key, e.partition, e.timestamp, list(e.headers)) for e in entries]
            await producer.flush()
            assert [(await s).offset for s in sent] == [e.offset for e in entries]

    async def read():
        got = []
        async with AIOKafkaConsumer(bootstrap_servers=server.bootstrap, enable_auto_commit=False) as consumer:
            partitions = [TopicPartition(topic_name, p) for p in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            while len(got) < len(entries):
                for messages in (await asyncio.wait_for(consumer.getmany(timeout_ms=500), 60)).values():
                    got += map(as_entry, messages)
        return got

    asyncio.run(asyncio.wait_for(write(), 120))
    dataset.assert_same(asyncio.run(asyncio.wait_for(read(), 120)), entries)


@pytest.mark.client("kafka-python")
@pytest.mark.scenario("every record comes back as it went")
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_kafka_python(server, topic_name, entries, codec):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    server.create_topic(topic_name, PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=server.bootstrap, compression_type=codec, linger_ms=5)
    sent = [producer.send(topic_name, e.value, e.key, list(e.headers), e.partition, e.timestamp) for e in entries]
    producer.flush(120)
    assert [s.get(1).offset for s in sent] == [e.offset for e in entries]
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=server.bootstrap, enable_auto_commit=False, group_id=None)
    consumer.assign([TopicPartition(topic_name, p) for p in range(PARTITIONS)])
    consumer.seek_to_beginning()
    got, deadline = [], time.monotonic() + 120
    while len(got) < len(entries):
        for messages in consumer.poll(timeout_ms=500).values():
            got += map(as_entry, messages)
        assert time.monotonic() < deadline, f"{len(got)} records of {len(entries)}"
    consumer.close()
    dataset.assert_same(got, entries)
