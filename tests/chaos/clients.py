"""The clients of the chaos test. Each is a thread that goes on through any faults, tells the tally what it was answered,
and counts its `progress`; the history that the checker wants is in `streams`, `readings` and `probes`.
"""

import random
import select
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from harness import librdkafka, wire
from harness.server import wait_until
from kill.checker import UNKNOWN, Attempt, Value
from kill.workload import LibrdkafkaProducer, RawProducer

from .checker import Probe
from .tally import ACKNOWLEDGED, REFUSED_ATTEMPT, UNKNOWN_ATTEMPT

# What a broker may answer to a Produce while faults last: not leader, timed out, not enough replicas (before and after
# the append), and the two of sequences that another attempt has overtaken.
EXPECTED_ERRORS = {6, 7, 19, 20, wire.OUT_OF_ORDER_SEQUENCE, wire.DUPLICATE_SEQUENCE_NUMBER}

# Of reads: not leader, timed out, the store failed.
RETRIABLE_READS = {6, 7, 56}

# librdkafka gives a silent broker up after a minute; here nobody has that long.
IMPATIENT = {"socket_timeout_ms": 10_000, "request_timeout_ms": 5_000, "reconnect_backoff_max_ms": 500, "message_timeout_ms": 300_000}


class Entrance:
    """Where a raw client connects: always to one broker, or to another one after each failure."""

    def __init__(self, brokers, roams):
        self.brokers, self.roams, self.connections = brokers, roams, 0

    def connect(self, timeout=None):
        self.connections += 1
        broker = self.brokers[self.connections % len(self.brokers)]
        if self.connections > 1:
            time.sleep(0.1)
        # Who can go elsewhere is impatient: the first attempt may still land.
        return broker.connect(timeout=2 if self.roams else 8)


class Producer(RawProducer):
    """Raw requests, five at once, some ten batches of 1 to 20 records a second."""

    def __init__(self, entrance, topic, partitions, name, idempotent, seed, tally):
        super().__init__(entrance, topic, partitions, name, idempotent, seed)
        self.tally, self.problems, self.errors = tally, [], {}

    @property
    def progress(self):
        return self.acknowledged

    def step(self, connection):
        if self.running.is_set():
            time.sleep(self.random.uniform(0, 1))
        # Answers before requests, so that nothing is sent to a broker that has said its last.
        while connection.buffer or select.select([connection.socket], [], [], 0)[0]:
            if not self.in_flight:
                connection.wait_closed()
                raise ConnectionResetError("closed while nothing was in flight")
            self.take_answer(connection)
        super().step(connection)

    def send(self, connection, batch):
        began = time.monotonic()
        try:
            super().send(connection, batch)
        finally:
            attempt = self.in_flight[-1][2]
            attempt.sent, attempt.connection = began, self.server.connections

    def take_answer(self, connection):
        _, batch, attempt = self.in_flight[0]
        super().take_answer(connection)
        attempt.answered = time.monotonic()
        if attempt.outcome == UNKNOWN:
            self.tally.count(self.name, UNKNOWN_ATTEMPT)
        elif attempt.outcome == "refused":
            self.tally.count(self.name, REFUSED_ATTEMPT)
        else:
            self.tally.count(self.name, ACKNOWLEDGED, batch.size)

    def outcome(self, answer):
        if answer.error:
            self.errors[answer.error] = self.errors.get(answer.error, 0) + 1
        if answer.error and answer.error not in EXPECTED_ERRORS:
            self.problems.append(f"{self.name} was answered error {answer.error}")
        return super().outcome(answer)

    def requeue(self):
        self.tally.count(self.name, UNKNOWN_ATTEMPT, len(self.in_flight))
        super().requeue()


class Librdkafka(LibrdkafkaProducer):
    """An idempotent librdkafka, some fifty records a second; knows all brokers."""

    def __init__(self, cluster, topic, partitions, name, tally, **settings):
        super().__init__(cluster, topic, partitions, name)
        self.producer = librdkafka.producer(cluster, enable_idempotence=True, linger_ms=2, error_cb=self.tell, **(IMPATIENT | settings))
        self.tally, self.problems, self.said = tally, [], []

    @property
    def progress(self):
        return self.acknowledged

    def tell(self, error):
        """What librdkafka tells its user; only what is fatal ends a producer."""
        self.said.append(error)
        if error.fatal():
            self.problems.append(f"{self.name}: {error}")

    def send(self):
        partition = self.next_batch % self.partitions
        attempt = Attempt(self.next_batch, sent=time.monotonic())
        self.streams[self.name, partition].attempts.append(attempt)
        value = Value(self.name, self.next_batch, 0, 1).encode()
        self.producer.produce(self.topic, value, partition=partition, on_delivery=lambda error, message: self.report(attempt, error, message))
        self.next_batch += 1
        self.producer.poll(0.02)

    def report(self, attempt, error, message):
        super().report(attempt, error, message)
        attempt.answered = time.monotonic()
        if error is None:
            self.tally.count(self.name, ACKNOWLEDGED)
        else:
            self.tally.count(self.name, UNKNOWN_ATTEMPT if attempt.outcome == UNKNOWN else REFUSED_ATTEMPT)
            # Five minutes of retries are longer than any fault here: whatever is told the user is one too many.
            self.problems.append(f"{self.name}: a record was given up: {error}")


class Client(threading.Thread):
    """What readers have in common: `live` is tried again and again until the end."""

    def __init__(self, name):
        super().__init__(name=name, daemon=True)
        self.over, self.failure, self.progress, self.problems = threading.Event(), None, 0, []

    def run(self):
        try:
            while not self.over.is_set():
                try:
                    self.live()
                except (OSError, TimeoutError):
                    time.sleep(0.1)
        except Exception as error:  # noqa: BLE001: the test is told, whatever it is
            self.failure = error
            raise

    def stop(self):
        self.over.set()
        self.join(60)

    def pause(self):
        pass

    def resume(self):
        pass


class Reader(Client):
    """Reads all partitions of one broker, in raw requests, as they grow."""

    def __init__(self, broker, topic, partitions, readings):
        super().__init__(f"reader-{broker.number}")
        self.broker, self.topic, self.readings = broker, topic, readings
        self.next = dict.fromkeys(range(partitions), 0)

    def live(self):
        with self.broker.connect(timeout=8) as connection:
            while not self.over.is_set():
                for answer in connection.fetch(self.topic, self.next, max_wait_ms=500):
                    self.take(answer)
                time.sleep(0.1)

    def take(self, answer):
        due = self.next[answer.partition]
        if answer.error not in RETRIABLE_READS | {wire.NONE}:
            self.problems.append(f"{self.name}: error {answer.error} at offset {due} of partition {answer.partition}, which it had reached")
            time.sleep(0.5)
        records = records_from(answer, due)
        self.next[answer.partition] = self.readings.met(self.name, answer.partition, due, records)
        self.progress += len(records)


def records_from(answer, due):
    """A fetch begins with the whole batch that holds the offset."""
    batches = wire.decode_batches(answer.records or b"")
    return [(offset, Value.decode(record.value)) for batch in batches for offset, record in batch.records if offset >= due]


class LibrdkafkaReader(Client):
    """librdkafka with partitions by hand; goes to whichever broker it is led to."""

    def __init__(self, cluster, topic, partitions, readings):
        super().__init__("librdkafka-reader")
        self.cluster, self.topic, self.readings = cluster, topic, readings
        self.next = dict.fromkeys(range(partitions), 0)

    def live(self):
        settings = {key: value for key, value in IMPATIENT.items() if key.startswith(("socket", "reconnect"))}
        reader = librdkafka.consumer(self.cluster, **settings)
        reader.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in self.next])
        while not self.over.is_set():
            for message in reader.consume(1000, timeout=0.5):
                self.take(message)
        reader.close()

    def take(self, message):
        if message.error():
            # It tells its user of an offset out of range, and of little else.
            self.problems.append(f"{self.name}: {message.error()}")
            return
        record = (message.offset(), Value.decode(message.value()))
        self.next[message.partition()] = self.readings.met(self.name, message.partition(), self.next[message.partition()], [record])
        self.progress += 1


class Prober(Client):
    """Asks one broker for the end of a partition, and at once another one for the record before it."""

    def __init__(self, brokers, topic, partitions, seed):
        super().__init__("prober")
        self.brokers, self.topic, self.partitions = brokers, topic, partitions
        self.random, self.probes = random.Random(seed), []

    def live(self):
        teller, other = self.random.sample(self.brokers, 2)
        partition = self.random.randrange(self.partitions)
        with teller.connect(timeout=4) as connection:
            asked = time.monotonic()
            error, _, end = connection.list_offset(self.topic, partition, wire.LATEST)
        if error == wire.NONE:
            self.probes.append(Probe(teller.number, partition, asked, time.monotonic(), end))
            self.progress += 1
        elif error not in RETRIABLE_READS:
            self.problems.append(f"broker {teller.number} answered error {error} to ListOffsets")
        if error == wire.NONE and end > 0:
            self.read_before(other, partition, end)
        time.sleep(0.1)

    def read_before(self, broker, partition, end):
        with broker.connect(timeout=4) as connection:
            (answer,) = connection.fetch(self.topic, {partition: end - 1}, max_wait_ms=200)
        if answer.error not in RETRIABLE_READS | {wire.NONE}:
            self.problems.append(f"broker {broker.number} answered error {answer.error} to a fetch at {end - 1} of partition {partition}, where the end is {end}")


def everyone_gets_on(clients, seconds):
    """Returns how long it took until all had made progress, and who was the last."""
    began, before = time.monotonic(), {client.name: client.progress for client in clients}
    left = []

    def stuck():
        nonlocal left
        now = [client.name for client in clients if client.progress <= before[client.name]]
        left = now or left
        return now

    try:
        wait_until(lambda: not stuck(), "", seconds)
    except TimeoutError:
        raise AssertionError(f"{seconds} s after the faults had healed these had got no further: {', '.join(stuck())}") from None
    return time.monotonic() - began, left[0] if left else ""


def read_everything(broker, topic, partitions):
    """{partition: [(offset, Value)]}: all that this broker says is there."""
    logs = {}
    with broker.connect() as connection:
        for partition in range(partitions):
            error, _, end = connection.list_offset(topic, partition, wire.LATEST)
            assert error == wire.NONE, f"broker {broker.number}: ListOffsets of partition {partition}: error {error}"
            log = []
            while len(log) < end:
                due = log[-1][0] + 1 if log else 0
                (answer,) = connection.fetch(topic, {partition: due})
                assert answer.error == wire.NONE, f"broker {broker.number}: fetch of partition {partition} at {due}: error {answer.error}"
                log += records_from(answer, due)
            logs[partition] = log
    return logs
