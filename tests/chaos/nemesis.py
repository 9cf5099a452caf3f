"""What goes wrong, from a seed. A fault is a generator: what stands before its `yield` breaks something, what stands
behind it heals it; the test holds it for as many seconds as it yields.

`Nemesis.deal` draws one fault, or two at once; every kind comes once before any comes twice. The same seed deals the
same faults, with the same durations, in the same order.
"""

import random
import signal
import subprocess
import time

from .world import LEASE


class Nemesis:
    def __init__(self, world, seed, longest_outage=20):
        self.world, self.random, self.longest_outage = world, random.Random(seed), longest_outage
        self.deck = []

    def deal(self):
        """[(words, generator)] of the faults that come together."""
        count = 2 if self.random.random() < 0.3 else 1
        dealt = [self.draw() for _ in range(count)]
        # Two of one kind would heal each other.
        return dealt if count == 1 or dealt[0].kind != dealt[1].kind else dealt[:1]

    def draw(self):
        if not self.deck:
            self.deck = [make for make, weight in DEALT for _ in range(weight)]
            self.random.shuffle(self.deck)
        return self.deck.pop()(self)

    def some(self):
        """One broker mostly, sometimes more, sometimes all."""
        count = self.random.choice([1, 1, 1, 2, 3])
        return sorted(self.random.sample(self.world.brokers, count), key=lambda broker: broker.number)


class Fault:
    def __init__(self, kind, words, seconds, work):
        self.kind, self.words, self.seconds, self.work = kind, words, seconds, work

    def strike(self):
        next(self.work)

    def heal(self):
        next(self.work, None)


def numbers(brokers):
    return " and ".join(str(broker.number) for broker in brokers)


# ------------------------------------------------------------------------------------------------------ brokers


def kill(nemesis):
    world, brokers, seconds = nemesis.world, nemesis.some(), nemesis.random.choice([0, 0.5, 3, LEASE + 3])

    def work():
        for broker in brokers:
            world.take_out(broker)
            broker.kill()
        yield
        for broker in brokers:
            world.put_back(broker)

    return Fault("process", f"kill -9 of {numbers(brokers)} for {seconds} s", seconds, work())


def pause(nemesis):
    world, brokers, seconds = nemesis.world, nemesis.some(), nemesis.random.choice([2, LEASE + 2, LEASE + 4])

    def work():
        for broker in brokers:
            broker.process.send_signal(signal.SIGSTOP)
        yield
        for broker in brokers:
            if broker.process.poll() is None:
                broker.process.send_signal(signal.SIGCONT)

    return Fault("process", f"SIGSTOP of {numbers(brokers)} for {seconds} s", seconds, work())


def roll(nemesis):
    world, rest = nemesis.world, nemesis.random.choice([0, 1])

    def work():
        for broker in world.brokers:
            world.take_out(broker)
            broker.process.send_signal(signal.SIGTERM)
            try:
                code = broker.process.wait(30)
            except subprocess.TimeoutExpired:
                # As Kubernetes does. It may take so long only while it cannot write what it has.
                broker.kill()
                code = 0 if len(world.tally.phases[-1].faults.split(", ")) > 1 else "none within 30 s"
            if code not in (0, 1):
                world.problems.append(f"broker {broker.number} ended with code {code} after SIGTERM:\n{broker.log_tail(5)}")
            time.sleep(rest)
            world.put_back(broker)
            time.sleep(1)
        yield

    return Fault("process", "rolling restart by SIGTERM", 0, work())


# -------------------------------------------------------------------------------------------------- etcd and S3


def etcd_dies(nemesis):
    world, seconds = nemesis.world, nemesis.random.choice([0, 3, LEASE + 4])
    count = nemesis.random.choice([1, len(world.etcds)])
    members = nemesis.random.sample(world.etcds, count)

    def work():
        for member in members:
            member.kill()
        yield
        for member in members:
            member.start(wait=False)

    return Fault("etcd", f"kill -9 of {count} of {len(world.etcds)} etcd for {seconds} s", seconds, work())


def etcd_sleeps(nemesis):
    world, seconds = nemesis.world, nemesis.random.choice([2, 5, LEASE + 4])
    count = nemesis.random.choice([1, len(world.etcds)])
    members = nemesis.random.sample(world.etcds, count)

    def work():
        for member in members:
            member.process.send_signal(signal.SIGSTOP)
        yield
        for member in members:
            member.process.send_signal(signal.SIGCONT)

    return Fault("etcd", f"SIGSTOP of {count} of {len(world.etcds)} etcd for {seconds} s", seconds, work())


def cut(what):
    def make(nemesis):
        world, brokers = nemesis.world, nemesis.some()
        mode = nemesis.random.choice(["refuse", "reset", "freeze", "freeze-up", "freeze-down"])
        # Of three members mostly one; the broker goes on to another.
        members = nemesis.random.choice([1, len(world.etcds)]) if what == "etcd" else None
        seconds = nemesis.random.choice([2, 5, LEASE + 4])

        def work():
            for broker in brokers:
                world.cut(what, broker, mode, members)
            yield
            for broker in brokers:
                world.cut(what, broker, "open")

        words = what if members in (None, len(world.etcds)) else f"{members} {what}"
        return Fault(f"way to {what}", f"{words} for {numbers(brokers)}: {mode} for {seconds} s", seconds, work())

    return make


S3_FAULTS = {
    "S3 answers a third with 503": {"put": {"unavailable": 0.3}, "get": {"unavailable": 0.3}},
    "S3 fails a third with 500": {"put": {"error": 0.3}, "get": {"error": 0.3}, "delete": {"error": 0.3}},
    "S3 is slow": {"put": {"latency": {"median_ms": 400, "p99_ms": 4000}}, "get": {"latency": {"median_ms": 100, "p99_ms": 2000}}},
    "S3 hangs a fifth of PUTs": {"put": {"hang": 0.2}},
    "S3 loses replies": {"put": {"lost_reply": 0.3, "hang_after": 0.1}, "get": {"torn": 0.2}},
    "S3 is late": {"put": {"late": 0.3}},
    "S3 cuts connections": {"put": {"cut": 0.4}, "get": {"cut": 0.2}},
    "S3 in conflict": {"put": {"conflict": 0.4}},
}


def s3_faulty(nemesis):
    words, faults = nemesis.random.choice(sorted(S3_FAULTS.items()))
    seconds = nemesis.random.choice([4, 8])

    def work():
        nemesis.world.s3.faults(**faults)
        yield
        nemesis.world.s3.faults()

    return Fault("s3", f"{words} for {seconds} s", seconds, work())


def s3_out(nemesis):
    kind = nemesis.random.choice(["cut", "hang", "unavailable"])
    seconds = nemesis.random.choice([4, 10, nemesis.longest_outage])

    def work():
        nemesis.world.s3.faults(outage=kind)
        yield
        nemesis.world.s3.faults()

    return Fault("s3", f"S3 is out ({kind}) for {seconds} s", seconds, work())


# How often each comes in a deck.
DEALT = [(kill, 3), (pause, 3), (roll, 1), (etcd_dies, 2), (etcd_sleeps, 1), (cut("etcd"), 3), (cut("s3"), 2), (s3_faulty, 3), (s3_out, 1)]
