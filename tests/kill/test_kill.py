"""Rounds of `kill -9` with requests unanswered; after each the server starts again on its directory, and every
acknowledged record is there at its offset, in order; of the others only what may be there is there. Beside the producers
a group's members and simple committers commit offsets: those never go back, and no member is forgotten."""

import time

import pytest
from harness import wire

from .checker import UNKNOWN, Value, check, check_kept
from .committers import Committers
from .moments import Moments
from .workload import LibrdkafkaProducer, RawProducer

TOPIC, PARTITIONS = "killed", 4
SEED = 20_251

# What makes the server take snapshots and truncate its journal often enough for kills to fall into them.
SERVER_ARGUMENTS = ["--snapshot-entries", "30"]


def read_logs(server):
    """Everything that is in every partition: {partition: [(offset, Value)]}."""
    logs = {}
    with server.connect() as connection:
        for partition in range(PARTITIONS):
            end, log = connection.list_offset(TOPIC, partition, wire.LATEST)[2], []
            while len(log) < end:
                (answer,) = connection.fetch(TOPIC, {partition: len(log)})
                assert answer.error == wire.NONE, f"fetch of partition {partition} at {len(log)}: error {answer.error}"
                for batch in wire.decode_batches(answer.records):
                    # A fetch begins with the whole batch that holds the offset.
                    log += [(offset, Value.decode(record.value)) for offset, record in batch.records if offset >= len(log)]
            logs[partition] = log
    return logs


@pytest.fixture
def server(new_server):
    server = new_server(*SERVER_ARGUMENTS).start()
    server.create_topic(TOPIC, PARTITIONS)
    yield server
    server.stop()


@pytest.fixture
def producers(server):
    raw = [RawProducer(server, TOPIC, PARTITIONS, f"idempotent-{i}", True, SEED + i) for i in range(2)]
    raw += [RawProducer(server, TOPIC, PARTITIONS, f"plain-{i}", False, SEED + 10 + i) for i in range(2)]
    started = [*raw, LibrdkafkaProducer(server, TOPIC, PARTITIONS, "librdkafka")]
    for producer in started:
        producer.start()
    yield started
    for producer in started:
        producer.stop()


@pytest.fixture
def committers(server):
    started = Committers(server, TOPIC, PARTITIONS, SEED)
    started.outside.find_coordinator(started.book.group)
    started.start()
    yield started
    started.stop()


def die_and_start_again(server, moments, moment):
    server.kill()
    if moment == "start-up":
        # Dies again at some point of its start, before it is known to be ready.
        server.start(wait=False)
        time.sleep(moments.random.uniform(0, moments.start_seconds))
        server.kill()
    began = time.monotonic()
    server.start()
    moments.start_seconds = time.monotonic() - began


def test_nothing_acknowledged_is_lost_and_nothing_is_doubled(server, producers, committers, request):
    rounds = request.config.getoption("--kill-rounds")
    moments = Moments(server, SEED)
    moments.start_seconds = 0.3
    before = {p: [] for p in range(PARTITIONS)}
    unanswered = 0
    for number in range(rounds):
        for one in [*producers, committers]:
            one.resume()
        moment = moments.deal(number)
        moments.wait_in_traffic(producers, [committers])
        if moment not in ("traffic", "start-up"):
            moments.wait_for_event(moment)
        unanswered += sum(len(p.in_flight) for p in producers)
        die_and_start_again(server, moments, moment)
        moments.count(moment)
        for one in [*producers, committers]:
            one.pause()
        now = read_logs(server)
        streams = {key: stream for producer in producers for key, stream in producer.streams.items()}
        problems = check(streams, now) + check_kept(before, now) + committers.problems()
        assert not problems, f"round {number}, killed in {moment}:\n" + "\n".join(problems[:20])
        before = now
    report(rounds, moments, before, streams, unanswered)
    report_commits(committers)
    assert unanswered, "no kill found a request in flight"
    assert all(moments.counted[name] >= min(5, rounds // len(moments.known)) for name in moments.known), moments.counted


def report(rounds, moments, logs, streams, unanswered):
    attempts = [a for stream in streams.values() for a in stream.attempts]
    unknown = sum(a.outcome == UNKNOWN for a in attempts)
    records = sum(map(len, logs.values()))
    print(f"\n{rounds} kills {moments.counted}: {records} records, {len(attempts)} batches sent, {unknown} with an unknown outcome, {unanswered} in flight at a kill")


def report_commits(committers):
    attempts = [a for book in committers.books for sent in book.attempts.values() for a in sent]
    unknown = sum(a.outcome == UNKNOWN for a in attempts)
    print(f"{committers.book.generation} generations, {len(attempts)} offsets sent, {unknown} with an unknown outcome")
    assert unknown, "no kill found a commit in flight"
