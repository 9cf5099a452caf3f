"""aiokafka as a member of groups: the event loop runs while a method of the adapter does."""

import asyncio
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from ..dataset import Entry
from . import member

# What it would say of rejoining and of servers that are down is for the tests to provoke.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor}


class Aiokafka(member.Client, ConsumerRebalanceListener):
    name = "aiokafka"
    assignors = ("range", "roundrobin", "sticky")
    cannot = {"fenced": "aiokafka leaves its instance id out of heartbeats, so that it is never told; the two take turns"}

    def __init__(self, server, joining, listener):
        self.joining, self.listener = joining, listener
        self.loop = asyncio.new_event_loop()
        self.run(self.begin(server))

    async def begin(self, server):
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=server.bootstrap,
            group_id=self.joining.group,
            group_instance_id=self.joining.instance,
            partition_assignment_strategy=[ASSIGNORS[self.joining.assignor]],
            session_timeout_ms=self.joining.session_ms,
            heartbeat_interval_ms=self.joining.heartbeat_ms,
            metadata_max_age_ms=self.joining.metadata_ms,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await self.consumer.start()

    def run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def subscribe(self):
        self.consumer.subscribe(list(self.joining.topics), listener=self)

    async def on_partitions_assigned(self, assigned):
        self.listener.assigned(plain(assigned))

    async def on_partitions_revoked(self, revoked):
        if self.joining.commit_on_revoke and revoked:
            await self.consumer.commit()
        self.listener.revoked(plain(revoked))

    def assign(self, partitions):
        async def take():
            self.consumer.assign([TopicPartition(*p) for p in partitions])

        self.run(take())

    def poll(self):
        try:
            came = self.run(self.consumer.getmany(timeout_ms=100))
        except errors.KafkaError as error:
            raise refusal(error) from error
        return [as_entry(message) for messages in came.values() for message in messages]

    def commit(self, offsets=None, wait=True):
        wanted = offsets and {TopicPartition(*p): OffsetAndMetadata(*value) for p, value in offsets.items()}

        async def later():
            # There is but one call, a coroutine: asynchronous is to go on and await it later.
            return await self.loop.create_task(self.consumer.commit(wanted))

        try:
            self.run(self.consumer.commit(wanted) if wait else later())
        except errors.KafkaError as error:
            raise refusal(error) from error

    def committed(self, partitions):
        async def ask():
            return {p: await self.consumer.committed(TopicPartition(*p)) for p in partitions}

        return {p: (offset, None) for p, offset in self.run(ask()).items() if offset is not None}

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(*partition), offset)

    def close(self):
        try:
            if self.joining.commit_on_revoke:
                self.commit()
        finally:
            self.run(self.consumer.stop())
            self.loop.close()

    @classmethod
    def produce(cls, server, topic, entries, codec):
        async def write():
            settings = {"compression_type": None if codec == "none" else codec, "enable_idempotence": True, "linger_ms": 5}
            async with AIOKafkaProducer(bootstrap_servers=server.bootstrap, **settings) as producer:
                sent = [await producer.send(topic, e.value, e.key, e.partition, e.timestamp, list(e.headers)) for e in entries]
                await producer.flush()
                assert [(await s).offset for s in sent] == [e.offset for e in entries]

        asyncio.run(asyncio.wait_for(write(), 120))

    @classmethod
    def entries(cls, everything):
        return without_null_headers(everything)


def plain(partitions):
    return [(p.topic, p.partition) for p in partitions]


def as_entry(message):
    pairs = tuple((name, value) for name, value in message.headers)
    return Entry(message.partition, message.offset, message.timestamp, message.key, message.value, pairs)


def without_null_headers(entries):
    """Neither client of Python alone takes a null header value."""
    return [e._replace(headers=tuple((k, v) for k, v in e.headers if v is not None)) for e in entries]


def refusal(error):
    fenced = type(error).__name__ == "FencedInstanceIdError" or "fenced" in str(error).lower()
    return (member.Fenced if fenced else member.Refused)(repr(error))
