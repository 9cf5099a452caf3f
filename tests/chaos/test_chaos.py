"""Faults from a seed, one after the other, while producers and readers at every broker go on. After each heals, everybody
gets on; in the end every broker has the same, and it is what the clients were told.

    pytest chaos --chaos-seconds 600 --chaos-seed 7 -s
"""

import contextlib
import random
import time

import pytest

from .checker import Readings, check
from .clients import Entrance, Librdkafka, LibrdkafkaReader, Prober, Producer, Reader, everyone_gets_on, read_everything
from .groups import Group
from .java import JavaProducer
from .nemesis import Nemesis
from .tally import Tally
from .world import World

pytestmark = pytest.mark.ours("several brokers over one store")

TOPIC, PARTITIONS = "chaos", 3

# Often enough that snapshots are taken, and truncated, while things go wrong.
ARGUMENTS = ["--snapshot-entries", "200", "--memory", "67108864", "--cache", "33554432"]

# From the healing of a fault until the slowest client has got on. A start of a broker that found no etcd is tried again
# after at most ten seconds, and librdkafka gives up a silent broker after ten.
GOES_ON_WITHIN = 45


class Crowd:
    """The clients at work in a world."""

    def __init__(self, world, seed, tally, groups=False):
        self.tally, self.readings, self.world = tally, Readings(), world
        brokers = world.brokers
        self.producers = []
        for broker in brokers:
            pinned = Entrance([broker], roams=False)
            self.producers.append(Producer(pinned, TOPIC, PARTITIONS, f"plain-{broker.number}", False, seed + broker.number, tally))
        for i in range(3):
            roaming = Entrance(brokers[i:] + brokers[:i], roams=True)
            self.producers.append(Producer(roaming, TOPIC, PARTITIONS, f"idempotent-{i}", True, seed + 10 + i, tally))
        self.producers += [Librdkafka(world, TOPIC, PARTITIONS, f"librdkafka-{i}", tally) for i in range(2)]
        self.producers.append(JavaProducer(world, TOPIC, PARTITIONS, "java", tally))
        self.prober = Prober(brokers, TOPIC, PARTITIONS, seed)
        self.readers = [Reader(broker, TOPIC, PARTITIONS, self.readings) for broker in brokers]
        self.readers += [LibrdkafkaReader(world, TOPIC, PARTITIONS, self.readings), self.prober]
        self.groups = [Group(world, TOPIC, PARTITIONS)] if groups else []

    @property
    def clients(self):
        return [*self.producers, *self.readers, *self.groups]

    def start(self):
        for client in self.clients:
            client.start()
            client.resume()
        everyone_gets_on(self.clients, 60)

    def failures(self):
        return [f"{client.name} ended: {client.failure!r}" for client in self.clients if client.failure]

    def rest(self):
        """Nothing is under way any more. Returns all that the checker wants: (streams, logs, readings, probes)."""
        for producer in self.producers:
            producer.pause()
        for group in self.groups:
            group.stop()
        logs = {broker.number: read_everything(broker, TOPIC, PARTITIONS) for broker in self.world.brokers}
        streams = {key: stream for producer in self.producers for key, stream in producer.streams.items()}
        self.records = sum(map(len, logs[0].values()))
        return streams, logs, self.readings, list(self.prober.probes)

    def problems(self):
        history = self.rest()
        own = [problem for client in self.clients for problem in client.problems]
        return [*self.failures(), *own, *check(*history)]

    def stop(self):
        threads = [*self.producers, *self.readers]
        for thread in threads:
            thread.over.set()
        for one in [*self.groups, *threads]:
            one.stop()


@contextlib.contextmanager
def working(directory, prefix, seed, members=1, arguments=ARGUMENTS, groups=False):
    """A world with its clients at work; stopped whatever happens."""
    world = World(directory, prefix, members, arguments)
    crowd = None
    try:
        world.start()
        world.create_topic(TOPIC, PARTITIONS)
        world.tally = Tally()
        crowd = Crowd(world, seed, world.tally, groups)
        crowd.start()
        yield world, crowd
    finally:
        if crowd:
            crowd.stop()
        world.stop()


def seed_of(request):
    seed = request.config.getoption("--chaos-seed")
    return random.SystemRandom().randrange(1_000_000) if seed is None else seed


def seconds_of(request, share):
    return request.config.getoption("--chaos-seconds") * share


@pytest.mark.parametrize("members, share", [(1, 2 / 3), (3, 1 / 3)], ids=["one-etcd", "three-etcd"])
def test_nothing_acknowledged_is_lost_whatever_goes_wrong(scratch, request, members, share):
    seed, seconds = seed_of(request), seconds_of(request, share)
    print(f"\nchaos of {seconds:.0f} s with {members} etcd, --chaos-seed {seed}")
    groups = request.config.getoption("--chaos-groups")
    with working(scratch / f"chaos-{members}", f"chaos-{members}", seed, members, groups=groups) as (world, crowd):
        nemesis = Nemesis(world, seed, longest_outage=60 if seconds > 300 else 15)
        over = time.monotonic() + seconds
        try:
            while time.monotonic() < over:
                go_through(nemesis.deal(), world, crowd)
            world.tally.end()
            problems = [*world.problems, *world.logged_problems(), *crowd.problems()]
        finally:
            report(world, crowd)
        assert not problems, f"--chaos-seed {seed}: {len(problems)} problems\n" + "\n".join(problems[:20])


def test_damage_to_a_real_history_is_seen(scratch):
    """What the unit tests of the checker show of small histories holds for those that the clients make."""
    with working(scratch / "damage", "damage", seed=1) as (_, crowd):
        time.sleep(3)
        streams, logs, readings, probes = crowd.rest()
    assert check(streams, logs, readings, probes) == []
    for words, bend in DAMAGES.items():
        bent = {broker: {**found, 0: bend(broker, found[0])} for broker, found in logs.items()}
        problems = check(streams, bent, readings, probes)
        assert any(words in problem for problem in problems), (words, problems[:5])


def renumbered(log):
    return [(offset, value) for offset, (_, value) in enumerate(log)]


# Words of the problem that is found, and what is done to a partition's log as this broker reads it.
DAMAGES = {
    "is lost": lambda _, log: log[:-20],
    "was due": lambda _, log: log[:20] + log[40:],
    "was acknowledged at": lambda _, log: renumbered(log[:20] + log[40:]),
    "is there 2 times": lambda _, log: log + renumbered(log + log)[len(log) :],
    "broker 2 reads": lambda broker, log: log[:-1] if broker == 2 else log,
    "was read at": lambda _, log: renumbered(log[::-1]),
}


def go_through(faults, world, crowd):
    """One fault, or two together, until all is well again."""
    world.tally.begin(", ".join(fault.words for fault in faults))
    phase = world.tally.phases[-1]
    began, healing = time.monotonic(), []
    try:
        for fault in faults:
            healing.append(fault)
            fault.strike()
        for fault in sorted(faults, key=lambda fault: fault.seconds):
            time.sleep(max(0, began + fault.seconds - time.monotonic()))
            healing.remove(fault)
            fault.heal()
    finally:
        for fault in healing:
            fault.heal()
    phase.healed = time.monotonic()
    phase.got_on = everyone_gets_on(crowd.clients, GOES_ON_WITHIN)
    world.wait_ready()
    assert not crowd.failures(), crowd.failures()


def report(world, crowd):
    print(world.tally.table())
    errors = {}
    for producer in crowd.producers:
        for code, count in getattr(producer, "errors", {}).items():
            errors[code] = errors.get(code, 0) + count
    print(f"{getattr(crowd, 'records', '?')} records in the log, {len(crowd.prober.probes)} probes, errors by code {errors}")
    for group in crowd.groups:
        print(group)
    for moment, number, code, line in world.exits:
        print(f"{moment - world.tally.phases[0].began:5.0f} broker {number} ended with code {code}: {line[-200:]}")
