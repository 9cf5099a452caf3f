"""kafka-python as a member of groups."""

import logging

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.structs import OffsetAndMetadata

from . import member
from .aio import as_entry, plain, refusal, without_null_headers

logging.getLogger("kafka").setLevel(logging.CRITICAL)

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor}


class KafkaPython(member.Client, ConsumerRebalanceListener):
    name = "kafka-python"
    assignors = ("range", "roundrobin", "sticky")

    def __init__(self, server, joining, listener):
        self.joining, self.listener = joining, listener
        self.consumer = KafkaConsumer(
            bootstrap_servers=server.bootstrap,
            group_id=joining.group,
            group_instance_id=joining.instance,
            partition_assignment_strategy=[ASSIGNORS[joining.assignor]],
            session_timeout_ms=joining.session_ms,
            heartbeat_interval_ms=joining.heartbeat_ms,
            metadata_max_age_ms=joining.metadata_ms,
            reconnect_backoff_max_ms=200,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    def subscribe(self):
        self.consumer.subscribe(list(self.joining.topics), listener=self)

    def on_partitions_assigned(self, assigned):
        self.listener.assigned(plain(assigned))

    def on_partitions_revoked(self, revoked):
        if self.joining.commit_on_revoke and revoked:
            self.consumer.commit()
        self.listener.revoked(plain(revoked))

    def assign(self, partitions):
        self.consumer.assign([TopicPartition(*p) for p in partitions])

    def poll(self):
        try:
            came = self.consumer.poll(timeout_ms=100)
        except errors.KafkaError as error:
            raise refusal(error) from error
        return [as_entry(message) for messages in came.values() for message in messages]

    def commit(self, offsets=None, wait=True):
        wanted = offsets and {TopicPartition(*p): OffsetAndMetadata(*value, -1) for p, value in offsets.items()}
        try:
            if wait:
                self.consumer.commit(wanted)
            else:
                self.await_outcome(self.consumer.commit_async(wanted))
        except errors.KafkaError as error:
            raise refusal(error) from error

    def await_outcome(self, future):
        owned = self.consumer.assignment()
        self.consumer.pause(*owned)
        while not future.is_done:
            assert not self.consumer.poll(timeout_ms=100)
        self.consumer.resume(*owned)
        if future.failed():
            raise future.exception

    def committed(self, partitions):
        found = {p: self.consumer.committed(TopicPartition(*p), metadata=True) for p in partitions}
        return {p: (value.offset, value.metadata) for p, value in found.items() if value is not None}

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(*partition), offset)

    def close(self):
        try:
            if self.joining.commit_on_revoke:
                self.commit()
        finally:
            self.consumer.close(autocommit=False)

    @classmethod
    def produce(cls, server, topic, entries, codec):
        producer = KafkaProducer(bootstrap_servers=server.bootstrap, compression_type=None if codec == "none" else codec, linger_ms=5)
        sent = [producer.send(topic, e.value, e.key, list(e.headers), e.partition, e.timestamp) for e in entries]
        producer.flush(120)
        assert [s.get(1).offset for s in sent] == [e.offset for e in entries]
        producer.close()

    @classmethod
    def entries(cls, everything):
        return without_null_headers(everything)
