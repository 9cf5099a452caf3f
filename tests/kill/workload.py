"""Producers that write until they are told to pause, through any number of deaths of the server, and remember for each
attempt what they were told.

`RawProducer` keeps up to five requests in flight on one connection and knows the outcome of each exactly. When the
connection dies, what was in flight is unknown; it is sent again, in order, on the next one: with the same sequence
numbers if idempotent. `LibrdkafkaProducer` is a real client doing the same by itself.
"""

import collections
import random
import threading
import time

from confluent_kafka import KafkaError
from harness import librdkafka, wire

from .checker import REFUSED, SOMEWHERE, UNKNOWN, Attempt, Stream, Value

IN_FLIGHT = 5  # what Kafka's idempotence allows

# Errors after which the batch may be there: timed out, after append, storage error, unknown.
MAY_HAVE_HAPPENED = {7, 13, 20, 56, -1}

# How librdkafka says that it does not know.
LIBRDKAFKA_UNKNOWN = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT}


class Batch:
    def __init__(self, number, partition, sequence, size):
        self.number, self.partition, self.sequence, self.size = number, partition, sequence, size


class RawProducer(threading.Thread):
    def __init__(self, server, topic, partitions, name, idempotent, seed):
        super().__init__(name=name, daemon=True)
        self.server, self.topic, self.partitions, self.idempotent = server, topic, partitions, idempotent
        self.random = random.Random(seed)
        self.streams = {(name, p): Stream(idempotent) for p in range(partitions)}
        self.sequences = collections.Counter()
        self.next_batch = 0
        self.again = collections.deque()  # to be sent before anything new
        self.in_flight = collections.deque()  # of [request number, Batch, Attempt], oldest first
        self.failed = []  # answered with an error; repeated when nothing is in flight
        self.acknowledged = 0
        self.failure = None
        self.running, self.idle, self.over = threading.Event(), threading.Event(), threading.Event()
        self.identity = None

    # ------------------------------------------------------------------------- from the test's thread

    def pause(self):
        """No new batches; returns when nothing is in flight and nothing waits to be repeated."""
        self.running.clear()
        if not self.idle.wait(120):
            raise TimeoutError(f"{self.name} still has {len(self.in_flight)} in flight after two minutes: {self.failure}")

    def resume(self):
        self.idle.clear()
        self.running.set()

    def stop(self):
        self.over.set()
        self.join(60)

    # ------------------------------------------------------------------------------ the producer's own

    def run(self):
        try:
            while not self.over.is_set():
                self.live_through_one_connection()
        except Exception as error:  # noqa: BLE001: the test is told, whatever it is
            self.failure = error
            raise

    def live_through_one_connection(self):
        try:
            with self.server.connect(timeout=60) as connection:
                if self.idempotent and self.identity is None:
                    self.identity = connection.init_producer_id()
                while not self.over.is_set():
                    self.step(connection)
        except (OSError, TimeoutError):
            # What was in flight stays unknown, and is sent again on the next connection.
            self.requeue()
            time.sleep(0.01)

    def step(self, connection):
        """Fills the pipeline, then takes one answer; rests when there is nothing to do."""
        while not self.failed and len(self.in_flight) < IN_FLIGHT and (self.again or self.running.is_set()):
            self.send(connection, self.again.popleft() if self.again else self.new_batch())
        if self.in_flight:
            self.take_answer(connection)
        elif self.failed:
            self.requeue()
            time.sleep(0.01)
        else:
            self.idle.set()
            self.running.wait(0.05)

    def new_batch(self):
        partition, size = self.next_batch % self.partitions, self.random.randint(1, 20)
        batch = Batch(self.next_batch, partition, self.sequences[partition], size)
        self.sequences[partition] += size
        self.next_batch += 1
        return batch

    def send(self, connection, batch):
        attempt = Attempt(batch.number)
        self.streams[self.name, batch.partition].attempts.append(attempt)
        values = [Value(self.name, batch.number, i, batch.size).encode() for i in range(batch.size)]
        producer = (*self.identity, batch.sequence) if self.idempotent else (-1, -1, -1)
        # The time is real: Kafka forgets at its start producers whose last record is a day old.
        now = int(time.time() * 1000)
        records = wire.record_batch([wire.Record(None, value, (), now) for value in values], producer=producer)
        # In flight before it is sent: a connection that breaks in between may have carried it.
        self.in_flight.append([None, batch, attempt])
        self.in_flight[-1][0] = connection.send(wire.PRODUCE, 7, wire.produce_body(self.topic, batch.partition, records))

    def take_answer(self, connection):
        number, reader = connection.receive()
        expected, batch, attempt = self.in_flight.popleft()
        assert number == expected, f"answer to request {number} where {expected} was due"
        (answer,) = wire.read_produce(reader, 7)
        attempt.outcome = self.outcome(answer)
        if attempt.outcome in (UNKNOWN, REFUSED):
            # Nothing more is sent until all that is in flight has its answer: then the failed ones go again, in order.
            self.failed.append(batch)
        else:
            self.acknowledged += batch.size

    def outcome(self, answer):
        if answer.error == wire.NONE:
            return answer.offset if answer.offset >= 0 else SOMEWHERE
        if answer.error == wire.DUPLICATE_SEQUENCE_NUMBER:
            return SOMEWHERE
        return UNKNOWN if answer.error in MAY_HAVE_HAPPENED else REFUSED

    def requeue(self):
        """All that failed or is without an answer goes first, in its order."""
        waiting = [*self.failed, *(batch for _, batch, _ in self.in_flight)]
        self.again.extendleft(reversed(waiting))
        self.failed.clear()
        self.in_flight.clear()


class LibrdkafkaProducer(threading.Thread):
    """An idempotent librdkafka; each record is a batch of its own in the history, since it decides on batches."""

    def __init__(self, server, topic, partitions, name):
        super().__init__(name=name, daemon=True)
        self.topic, self.partitions = topic, partitions
        self.streams = {(name, p): Stream(idempotent=True) for p in range(partitions)}
        self.producer = librdkafka.producer(
            server, enable_idempotence=True, linger_ms=2, reconnect_backoff_max_ms=200, message_timeout_ms=300_000
        )
        self.next_batch, self.acknowledged, self.failure = 0, 0, None
        self.running, self.over = threading.Event(), threading.Event()
        self.resting = threading.Event()

    @property
    def in_flight(self):
        return range(len(self.producer))

    def pause(self):
        self.running.clear()
        self.resting.wait(60)
        left = self.producer.flush(120)
        assert left == 0, f"{self.name} still has {left} records without an answer after two minutes"

    def resume(self):
        self.running.set()

    def stop(self):
        self.over.set()
        self.join(60)

    def run(self):
        while not self.over.is_set():
            if self.running.is_set() and len(self.producer) < 200:
                self.resting.clear()
                self.send()
            else:
                if not self.running.is_set():
                    self.resting.set()
                self.producer.poll(0.01)

    def send(self):
        partition = self.next_batch % self.partitions
        attempt = Attempt(self.next_batch)
        self.streams[self.name, partition].attempts.append(attempt)
        value = Value(self.name, self.next_batch, 0, 1).encode()
        self.producer.produce(self.topic, value, partition=partition, on_delivery=lambda error, message: self.report(attempt, error, message))
        self.next_batch += 1
        # A pause, so that the raw producers' share of the log is not drowned.
        self.producer.poll(0.0005)

    def report(self, attempt, error, message):
        if error is None:
            # Without an offset librdkafka was told that it was a duplicate.
            attempt.outcome = message.offset() if message.offset() >= 0 else SOMEWHERE
            self.acknowledged += 1
        elif error.code() not in LIBRDKAFKA_UNKNOWN:
            attempt.outcome = REFUSED
