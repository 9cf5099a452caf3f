"""The kill test must fail on a broker that acknowledges before the journal is written: a build with that bug planted."""

import subprocess

import pytest
from harness.server import ROOT, Kafscale

from .checker import check
from .moments import Moments
from .test_kill import PARTITIONS, SEED, TOPIC, read_logs
from .workload import RawProducer

ROUNDS = 20


class PlantedBroker(Kafscale):
    @staticmethod
    def binary():
        return ROOT / "target/release/planted-broker"


@pytest.fixture
def planted(scratch):
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "kafscale-sim", "--bin", "planted-broker"]
    subprocess.run(build, cwd=ROOT, check=True)
    # No snapshots: one of a state that is not in the journal yet would end the broker, and that is another bug.
    server = PlantedBroker(scratch / "planted", "--snapshot-entries", "1000000").start()
    yield server
    server.stop()


@pytest.mark.ours("the bug is planted in ours")
def test_an_acknowledgement_before_the_journal_is_found(planted):
    planted.create_topic(TOPIC, PARTITIONS)
    producer = RawProducer(planted, TOPIC, PARTITIONS, "plain", False, SEED)
    producer.start()
    moments = Moments(planted, SEED)
    try:
        assert any(loses_something(planted, producer, moments) for _ in range(ROUNDS)), "20 kills, and nothing was found"
    finally:
        producer.stop()


def loses_something(server, producer, moments):
    """One kill in traffic; whether the checker finds what was lost."""
    producer.resume()
    moments.wait_in_traffic([producer])
    server.kill()
    server.start()
    producer.pause()
    return bool(check(producer.streams, read_logs(server)))
