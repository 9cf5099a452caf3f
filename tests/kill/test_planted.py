"""The kill test must fail on a broker that acknowledges before the journal is written: a build with that bug planted."""

import subprocess

import pytest
from harness.server import ROOT, Kafscale

from .checker import check
from .committers import Committers
from .moments import Moments
from .test_kill import PARTITIONS, SEED, TOPIC, read_logs
from .workload import RawProducer

ROUNDS = 5
NO_DELAY = ["--group-initial-rebalance-delay-ms", "0"]


class PlantedBroker(Kafscale):
    @staticmethod
    def binary():
        return ROOT / "target/release/planted-broker"


@pytest.fixture(scope="module", autouse=True)
def planted_broker():
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "kafscale-sim", "--bin", "planted-broker"]
    subprocess.run(build, cwd=ROOT, check=True)


@pytest.mark.ours("the bug is planted in ours")
@pytest.mark.parametrize("broker, is_found", [(PlantedBroker, True), (Kafscale, False)], ids=["planted", "shipped"])
def test_an_acknowledgement_before_the_journal_is_found(scratch, broker, is_found):
    # No snapshots: one of a state that is not in the journal yet would end the broker, and that is another bug.
    server = broker(scratch / f"early-{broker.__name__}", "--snapshot-entries", "1000000").start()
    producer = RawProducer(server, TOPIC, PARTITIONS, "plain", False, SEED)
    try:
        server.create_topic(TOPIC, PARTITIONS)
        producer.start()
        moments = Moments(server, SEED)
        assert any(problems_after_a_kill(server, producer, moments) for _ in range(ROUNDS)) == is_found
    finally:
        producer.stop()
        server.stop()


@pytest.mark.ours("the bug is planted in ours")
@pytest.mark.parametrize("broker, is_found", [(PlantedBroker, True), (Kafscale, False)], ids=["planted", "shipped"])
def test_a_commit_answered_before_the_journal_is_found(scratch, broker, is_found):
    server = broker(scratch / f"early-commits-{broker.__name__}", "--snapshot-entries", "1000000", *NO_DELAY).start()
    committers = Committers(server, TOPIC, PARTITIONS, SEED)
    try:
        server.create_topic(TOPIC, PARTITIONS)
        committers.start()
        moments = Moments(server, SEED)
        assert any(lost_commits_after_a_kill(server, committers, moments) for _ in range(ROUNDS)) == is_found
    finally:
        committers.stop()
        server.stop()


def lost_commits_after_a_kill(server, committers, moments):
    committers.resume()
    moments.wait_in_traffic([], [committers])
    server.kill()
    server.start()
    committers.pause()
    return committers.problems()


def problems_after_a_kill(server, producer, moments):
    """One kill in traffic, and what the checker finds."""
    producer.resume()
    moments.wait_in_traffic([producer])
    server.kill()
    server.start()
    producer.pause()
    return check(producer.streams, read_logs(server))
