"""How long clients wait when one thing goes wrong that is planned for: a broker is killed, all are restarted one by one,
the bucket or etcd is away for a minute. The bounds are generous, since machines differ; the figures are printed.
"""

import threading
import time

import pytest
from harness import wire
from harness.server import Sampler, wait_until

from .clients import everyone_gets_on
from .tally import UNKNOWN_ATTEMPT
from .test_chaos import PARTITIONS, TOPIC, seed_of, working

pytestmark = pytest.mark.ours("several brokers over one store")

MIB = 1 << 20
# As in test_hostile.py: what a broker is given, and what it may hold beside that.
MEMORY, CACHE, ALLOWANCE = 64 * MIB, 32 * MIB, 128 * MIB


@pytest.fixture
def away_seconds(request):
    """A minute; less in a run that is to be short."""
    return min(60, request.config.getoption("--chaos-seconds") // 5)


@pytest.fixture
def at_work(scratch, request, topic_name):
    with working(scratch / topic_name, topic_name, seed_of(request)) as (world, crowd):
        yield world, crowd


def no_problems(world, crowd):
    world.tally.end()
    problems = [*world.problems, *world.logged_problems(), *crowd.problems()]
    print(world.tally.table())
    assert not problems, "\n".join(problems[:20])


class Answered:
    """When each thing that was waited for came, after a moment."""

    def __init__(self, moment):
        self.moment, self.seconds = moment, {}

    def look(self, name, has_come):
        if name not in self.seconds and has_come:
            self.seconds[name] = time.monotonic() - self.moment

    def __str__(self):
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1]))


def test_a_killed_broker_is_not_waited_for(at_work):
    """Each partition's producers and consumers that were led to it are served by the others."""
    world, crowd = at_work
    for victim in world.brokers:
        world.tally.begin(f"kill -9 of {victim.number}, which stays dead")
        world.take_out(victim)
        led_here = led_to(world, victim)
        victim.kill()
        died = time.monotonic()
        waits = Answered(died)
        others = [client for client in crowd.clients if not client.name.endswith(f"plain-{victim.number}") and client.name != f"reader-{victim.number}"]
        expected = [(producer, p) for producer in crowd.producers if producer in others for p in range(PARTITIONS)]
        following = next(reader for reader in crowd.readers if reader.name == "librdkafka-reader")
        ends = dict(following.next)

        def all_served():
            for producer, p in expected:
                waits.look(f"{producer.name}/{p}", any(a.sent > died and isinstance(a.outcome, int) for a in producer.streams[producer.name, p].attempts[-30:]))
            for p, end in ends.items():
                waits.look(f"{following.name}/{p}", following.next[p] > end + 20)
            return len(waits.seconds) == len(expected) + len(ends)

        wait_until(all_served, "all are served by the others", 60)
        slowest = max(waits.seconds, key=waits.seconds.get)
        print(f"\nbroker {victim.number} killed, leader of partitions {led_here}: longest wait {waits.seconds[slowest]:.2f} s ({slowest}); {waits}")
        assert waits.seconds[slowest] < 20
        time.sleep(8)  # past the end of its session
        world.put_back(victim)
        world.wait_ready()
        everyone_gets_on(crowd.clients, 30)
    no_problems(world, crowd)


def led_to(world, broker):
    """The partitions that clients are led to this broker for."""
    with broker.connect() as connection:
        partitions = connection.metadata([TOPIC])[TOPIC].partitions
    return [p for p, (_, leader, _) in partitions.items() if leader == broker.number]


def test_a_rolling_restart_is_noticed_by_nobody(at_work):
    world, crowd = at_work
    before = time.monotonic()
    took = []
    for broker in world.brokers:
        world.tally.begin(f"SIGTERM of {broker.number}, restart")
        world.take_out(broker)
        began = time.monotonic()
        assert broker.terminate() == 0
        took.append(time.monotonic() - began)
        world.put_back(broker)
        world.wait_ready()
        everyone_gets_on(crowd.clients, 30)
        time.sleep(2)
    no_problems(world, crowd)
    told = {str(error) for producer in crowd.producers for error in getattr(producer, "said", [])}
    errors = {producer.name: producer.errors for producer in crowd.producers if getattr(producer, "errors", None)}
    pause = world.tally.longest_pause(since=before)
    print(f"\nstops took {', '.join(f'{t:.2f} s' for t in took)}; longest pause in acknowledgements {pause:.2f} s; answers with errors {errors}; librdkafka told its user {told}")
    # Requests that crossed the close of their connection, if any; plain producers repeat them.
    assert sum(phase.counts[UNKNOWN_ATTEMPT] for phase in world.tally.phases) <= 20
    assert pause < 10
    assert not world.exits


class Filler(threading.Thread):
    """Fills a broker's memory: large batches to a topic of their own, as many under way as the socket takes. Of the
    answers only refusals matter: an error that does not tell a client to try again."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.over, self.odd, self.acknowledged = broker, threading.Event(), set(), 0
        self.batch = wire.record_batch([wire.Record(None, b"x" * 900_000, timestamp=int(time.time() * 1000))])

    def run(self):
        while not self.over.is_set():
            try:
                with self.broker.connect(timeout=2) as connection:
                    self.fill(connection)
            except (OSError, TimeoutError):
                time.sleep(0.2)

    def fill(self, connection):
        # More than the budget; the socket is not read long before.
        for _ in range(2 * MEMORY // len(self.batch)):
            connection.send(wire.PRODUCE, 7, wire.produce_body("filler", 0, self.batch))
        while not self.over.is_set():
            (answer,) = wire.read_produce(connection.receive()[1], 7)
            self.acknowledged += answer.error == wire.NONE
            if answer.error not in (wire.NONE, 6, 7, 19, 20):
                self.odd.add(answer.error)
            time.sleep(0.3)
            connection.send(wire.PRODUCE, 7, wire.produce_body("filler", 0, self.batch))


@pytest.mark.parametrize("kind", ["hang", "cut"])
def test_the_bucket_is_away_for_a_minute(at_work, away_seconds, kind):
    world, crowd = at_work

    def away():
        world.s3.faults(outage=kind)

    be_without(f"S3 is away ({kind})", world, crowd, (away, world.s3.faults), away_seconds)


def test_etcd_is_away_for_a_minute(at_work, away_seconds):
    world, crowd = at_work
    (etcd,) = world.etcds
    be_without("etcd is away", world, crowd, (etcd.kill, etcd.start), away_seconds)


def be_without(words, world, crowd, leave_and_come_back, seconds):
    """Nothing is acknowledged meanwhile, nothing is lost, memory stays within the budget, and service returns."""
    leave, come_back = leave_and_come_back
    world.create_topic("filler", 1)
    samplers = [Sampler(broker) for broker in world.brokers]
    fillers = [Filler(broker) for broker in world.brokers]
    for one in samplers:
        one.thread.start()
    world.tally.begin(f"{words} for {seconds} s, and clients fill the memory")
    leave()
    time.sleep(3)
    for filler in fillers:
        filler.start()
    acknowledged = sum(producer.acknowledged for producer in crowd.producers)
    time.sleep(seconds - 3)
    assert sum(producer.acknowledged for producer in crowd.producers) == acknowledged, "nothing is acknowledged while it is away"
    assert all(broker.http("/livez") is not None for broker in world.brokers)
    began = time.monotonic()
    come_back()
    waits = Answered(time.monotonic())
    before = {client.name: client.progress for client in crowd.clients}

    def all_served():
        for client in crowd.clients:
            waits.look(client.name, client.progress > before[client.name])
        return len(waits.seconds) == len(before)

    for filler in fillers:
        filler.over.set()
    wait_until(all_served, "everybody is served again", 60)
    highest = max(one.highest for one in samplers)
    for one in samplers:
        one.done.set()
    print(f"\n{words}: back after {waits.moment - began:.1f} s; then {waits}\nhighest resident memory {highest / MIB:.0f} MiB, {len(world.exits)} brokers ended by themselves")
    assert {error for filler in fillers for error in filler.odd} == set()
    first, last = min(waits.seconds.values()), max(waits.seconds.values())
    assert first < 15 and last < 45, waits
    assert highest <= MEMORY + CACHE + ALLOWANCE
    assert not world.exits
    no_problems(world, crowd)
