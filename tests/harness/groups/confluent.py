"""confluent-kafka (librdkafka in C) as a member of groups."""

from confluent_kafka import OFFSET_STORED, Consumer, KafkaError, KafkaException, TopicPartition

from .. import librdkafka
from . import member

ASSIGNORS = {"cooperative": "cooperative-sticky"}


class Confluent(member.Client):
    name = "confluent-kafka"
    assignors = ("range", "roundrobin", "cooperative")

    def __init__(self, server, joining, listener):
        self.joining, self.listener, self.outcomes = joining, listener, []
        settings = {
            "bootstrap.servers": server.bootstrap,
            "group.id": joining.group,
            "log_level": librdkafka.QUIET,
            "partition.assignment.strategy": ASSIGNORS.get(joining.assignor, joining.assignor),
            "session.timeout.ms": joining.session_ms,
            "heartbeat.interval.ms": joining.heartbeat_ms,
            "topic.metadata.refresh.interval.ms": joining.metadata_ms,
            "reconnect.backoff.max.ms": 200,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "on_commit": lambda error, _partitions: self.outcomes.append(error),
        }
        if joining.instance:
            settings["group.instance.id"] = joining.instance
        self.consumer = Consumer(settings)

    def subscribe(self):
        self.consumer.subscribe(list(self.joining.topics), on_assign=self.on_assign, on_revoke=self.on_revoke)

    def on_assign(self, _consumer, partitions):
        self.listener.assigned(plain(partitions))

    def on_revoke(self, _consumer, partitions):
        if self.joining.commit_on_revoke:
            self.commit()
        self.listener.revoked(plain(partitions))

    def assign(self, partitions):
        self.consumer.assign([TopicPartition(*p, OFFSET_STORED) for p in partitions])

    def poll(self):
        # One by one: `consume` marks a whole batch as read before it hands it out, and a rebalance may come in between.
        entries, message = [], self.consumer.poll(0.1)
        while message is not None:
            if error := message.error():
                check(error)
            else:
                entries.append(librdkafka.entry(message))
            message = self.consumer.poll(0) if len(entries) < 5_000 else None
        return entries

    def commit(self, offsets=None, wait=True):
        wanted = offsets and [TopicPartition(*p, offset, metadata) for p, (offset, metadata) in offsets.items()]
        try:
            done = self.consumer.commit(offsets=wanted, asynchronous=not wait) if wanted else self.consumer.commit(asynchronous=not wait)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise refusal(error.args[0]) from error
            return
        for partition in done or []:
            check(partition.error)
        if not wait:
            self.await_outcome()

    def await_outcome(self):
        self.outcomes.clear()
        # No partition is fetched meanwhile: what comes from this poll is the outcome alone.
        owned = self.consumer.assignment()
        self.consumer.pause(owned)
        while not self.outcomes:
            assert self.consumer.poll(0.1) is None
        self.consumer.resume(owned)
        check(self.outcomes[0])

    def committed(self, partitions):
        answers = self.consumer.committed([TopicPartition(*p) for p in partitions], timeout=30)
        return {(a.topic, a.partition): (a.offset, a.metadata or "") for a in answers if a.offset >= 0}

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(*partition, offset))

    def close(self):
        self.consumer.close()

    @staticmethod
    def metadata(words):
        """The binding counts the end of the C string too, wherever there are words."""
        return words and words + "\0"

    @classmethod
    def produce(cls, server, topic, entries, codec):
        librdkafka.produce(server, topic, entries, compression_type=codec, enable_idempotence=True)


def plain(partitions):
    return [(p.topic, p.partition) for p in partitions]


def refusal(error):
    fenced = error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL)
    return (member.Fenced if fenced else member.Refused)(f"{error.name()}: {error.str()}")


def check(error):
    """Raises what is final; a connection that broke is not, librdkafka makes another."""
    if error and not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        raise refusal(error)
