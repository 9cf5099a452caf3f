"""Records in a bucket, the journal in a directory: the same promises over a store that is slow, lies and goes away."""

import subprocess
import threading
import time

import pytest
from harness import dataset, librdkafka
from harness.s3 import BUCKET, KafscaleOnS3, S3Server, flags
from harness.server import Kafscale, free_port, wait_until

pytestmark = pytest.mark.ours("its own store")

BAD_GET = {"lost_reply": 0.1, "unavailable": 0.1, "torn": 0.05, "cut": 0.05, "error": 0.05}
BAD_PUT = BAD_GET | {"torn": 0, "conflict": 0.05, "lost_reply": 0.3, "latency": {"median_ms": 20, "p99_ms": 100}}


@pytest.fixture
def bad_s3(s3):
    """The shared server, whose faults end with the test."""
    yield s3
    s3.faults()


@pytest.fixture
def broker(scratch, topic_name, s3):
    server = KafscaleOnS3(scratch / topic_name, s3=s3).start()
    yield server
    server.stop()


def put_count(s3):
    return s3.stats()["methods"].get("put", {}).get("requests", 0)


def test_every_record_is_in_the_bucket_and_survives_a_kill(broker, s3):
    entries = dataset.reference_entries()
    broker.create_topic("t", 3)
    librdkafka.produce(broker, "t", entries, compression_type="zstd")
    dataset.assert_same(librdkafka.consume(broker, "t", len(entries)), entries)
    assert not (broker.data / "objects").exists(), "no record is in the directory"
    broker.kill()
    broker.start()
    before = s3.stats()["methods"]["get"]["requests"]
    dataset.assert_same(librdkafka.consume(broker, "t", len(entries)), entries)
    assert s3.stats()["methods"]["get"]["requests"] > before, "it was read from the bucket"


def test_puts_do_not_grow_with_partitions(broker, s3):
    """Two thousand records a second over ten partitions and over a thousand: the flush budget is the same five a second."""
    for name, partitions in (("ten", 10), ("thousand", 1000)):
        broker.create_topic(name, partitions)
        sender = librdkafka.producer(broker, linger_ms=0)
        before, began = put_count(s3), time.monotonic()
        for i in range(10_000):
            sender.produce(name, value=b"v" * 100, partition=i % partitions)
            if i % 10 == 0:
                sender.poll(0.005)
        assert sender.flush(60) == 0
        puts, seconds = put_count(s3) - before, time.monotonic() - began
        assert 0 < puts <= 5 * seconds + 8, f"{puts} PUTs in {seconds:.1f} s for {partitions} partitions"


def test_a_store_that_fails_and_loses_replies(broker, bad_s3):
    broker.create_topic("t", 3)
    entries = dataset.reference_entries(20_000)
    bad_s3.faults(put=BAD_PUT, get=BAD_GET)
    for i in range(0, len(entries), 1000):  # twenty bundles at least
        librdkafka.produce(broker, "t", entries[i : i + 1000], enable_idempotence=True)
    dataset.assert_same(librdkafka.consume(broker, "t", len(entries)), entries)
    broker.kill()
    bad_s3.faults()
    broker.start()
    bad_s3.faults(get=BAD_GET)
    dataset.assert_same(librdkafka.consume(broker, "t", len(entries)), entries)
    assert bad_s3.stats()["methods"]["put"]["faults"].get("lost_reply", 0) > 0


@pytest.mark.parametrize("kind", ["cut", "hang", "unavailable"])
def test_a_store_that_is_away(broker, bad_s3, kind):
    """Producers wait and lose nothing; consumers of what is in memory go on; memory stays within the budget."""
    broker.create_topic("t", 1)
    first = numbered(0, 1000)
    librdkafka.produce(broker, "t", first)
    bad_s3.faults(outage=kind)
    later = numbered(1000, 20_000)
    writing = threading.Thread(target=librdkafka.produce, args=(broker, "t", later), kwargs={"enable_idempotence": True})
    writing.start()
    dataset.assert_same(librdkafka.consume(broker, "t", 1000, partitions=1), first)
    time.sleep(8)
    assert writing.is_alive(), "nothing is acknowledged while the store is away"
    assert broker.http("/livez") is not None
    bad_s3.faults()
    writing.join(120)
    assert not writing.is_alive()
    dataset.assert_same(librdkafka.consume(broker, "t", 21_000, partitions=1), first + later)


def get_count(s3):
    return s3.stats()["methods"].get("get", {}).get("requests", 0)


def test_a_copy_of_the_bucket_is_read_first(scratch, topic_name, bad_s3):
    copy = S3Server()
    server = KafscaleOnS3(scratch / topic_name, f"--read-store=s3://{BUCKET}/{topic_name}", f"--s3-read-endpoint=http://{copy.address}", s3=bad_s3)
    entries = dataset.reference_entries(9_000)
    try:
        server.start()
        server.create_topic("t", 3)
        librdkafka.produce(server, "t", entries)
        server.kill()
        server.start()
        dataset.assert_same(librdkafka.consume(server, "t", len(entries)), entries)
        assert get_count(copy) > 0, "it was asked first, and had nothing"
        assert bad_s3.copy_to(copy, topic_name) > 0
        server.kill()
        server.start()
        bad_s3.faults(outage="unavailable")
        dataset.assert_same(librdkafka.consume(server, "t", len(entries)), entries)
        bad_s3.faults()
        server.kill()
        server.start()
        copy.faults(outage="unavailable")
        dataset.assert_same(librdkafka.consume(server, "t", len(entries)), entries)
    finally:
        server.stop()
        copy.stop()


def numbered(start, count):
    return [dataset.Entry(0, start + i, dataset.FIRST_TIMESTAMP + i, None, b"%d" % (start + i), ()) for i in range(count)]


# ---------------------------------------------------------------------------------- what is refused at the start


def refusal(server, seconds=60):
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=seconds, env=server.environment())
    assert done.returncode == 1, f"exit code {done.returncode}:\n{done.stderr}"
    return done.stderr.strip().splitlines()[-1]


class Told(Kafscale):
    """A broker that is told a bucket with something changed."""

    def __init__(self, directory, s3, **changes):
        super().__init__(directory)
        self.place = lambda: flags(s3, self.directory.name, self.data, **changes)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"store": "s3://nobody-made-this/x"}, ["nobody-made-this", "bucket"]),
        ({"s3-secret-key": "wrong"}, ["SignatureDoesNotMatch", "secret key"]),
        ({"s3-access-key": "stranger"}, ["does not know the access key"]),
    ],
)
def test_a_bucket_that_cannot_be_used(scratch, topic_name, s3, changes, words):
    said = refusal(Told(scratch / topic_name, s3, **changes))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "faults, words",
    [
        ({"ignore_conditions": True}, ["If-None-Match"]),
        ({"deny": ["s3:DeleteObject"]}, ["s3:DeleteObject"]),
        ({"deny": ["s3:ListBucket"]}, ["s3:ListBucket"]),
        ({"clock_ahead_ms": 600_000}, ["clock"]),
    ],
)
def test_a_store_that_cannot_hold_a_log(scratch, topic_name, bad_s3, faults, words):
    bad_s3.faults(**faults)
    said = refusal(KafscaleOnS3(scratch / topic_name, s3=bad_s3))
    assert all(word in said for word in words), said


def test_a_bucket_of_another_cluster(broker, scratch, topic_name, s3):
    other = Told(scratch / f"{topic_name}-other", s3, store=f"s3://{BUCKET}/{broker.directory.name}")
    said = refusal(other)
    assert "belongs to cluster" in said and "choose another bucket or prefix" in said, said


def test_a_directory_is_not_taken_for_the_other_kind(broker, scratch, topic_name, s3):
    broker.terminate()
    embedded = Kafscale(scratch / f"{topic_name}-embedded")
    embedded.data = broker.data
    said = refusal(embedded)
    assert "is the journal of records that are in a bucket" in said and "--store" in said, said

    embedded = Kafscale(scratch / f"{topic_name}-other").start()
    embedded.terminate()
    moved = Told(scratch / f"{topic_name}-other", s3)
    said = refusal(moved)
    assert "holds its records itself" in said and f"--data-dir {moved.data}" in said, said


def test_a_store_that_comes_later_is_waited_for(scratch, topic_name):
    address = f"127.0.0.1:{free_port()}"
    absent = type("Absent", (), {"address": address})
    server = KafscaleOnS3(scratch / topic_name, s3=absent).start(wait=False)
    try:
        wait_until(lambda: "cannot be used yet" in server.log_text() and address in server.log_text(), "it says whom it waits for")
        come = S3Server(address)
        server.wait_ready()
    finally:
        server.stop()
    come.stop()
