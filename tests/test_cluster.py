"""Several brokers over one bucket and one etcd: any of them takes any write, and none of them is missed."""

import json
import shutil
import signal
import subprocess
import threading
import time

import pytest
from confluent_kafka.admin import AdminClient
from harness import dataset, librdkafka, wire
from harness.cluster import Broker, Cluster, Etcd
from harness.s3 import BUCKET
from harness.server import wait_until

pytestmark = pytest.mark.ours("several brokers over one store")

LEASE = 6
FIVE = wire.record_batch([wire.Record(None, b"x", timestamp=dataset.FIRST_TIMESTAMP)] * 5)


@pytest.fixture(scope="module")
def services(scratch):
    """One etcd and one S3 server; each test has a prefix of its own in both."""
    own = Cluster(scratch / "services", brokers=0)
    yield own
    own.stop()


@pytest.fixture
def new_cluster(services, scratch, topic_name):
    made = []

    def make(**settings):
        prefix = f"{topic_name}-{len(made)}"
        made.append(Cluster(scratch / prefix, prefix=prefix, etcd=services.etcd, s3=services.s3, **settings))
        return made[-1].start()

    yield make
    for cluster in made:
        cluster.stop()


def numbered(start, count, partition=0):
    entry = lambda i: dataset.Entry(partition, i, dataset.FIRST_TIMESTAMP + i, None, b"%d" % i, ())
    return [entry(i) for i in range(start, start + count)]


def brokers_seen(broker):
    listing = subprocess.run(["kcat", "-L", "-J", "-b", broker.bootstrap], capture_output=True, text=True, check=True, timeout=30)
    return {b["id"] for b in json.loads(listing.stdout)["brokers"]}


def test_any_broker_takes_any_write_and_any_read(new_cluster):
    cluster = new_cluster()
    cluster.create_topic("t", 3)
    entries = dataset.reference_entries(9_000)
    for i, broker in enumerate(cluster.brokers):
        part = entries[3000 * i : 3000 * (i + 1)]
        librdkafka.produce(broker, "t", part, enable_idempotence=True)
    for broker in cluster.brokers:
        dataset.assert_same(librdkafka.consume(broker, "t", len(entries)), entries)
        assert brokers_seen(broker) == {0, 1, 2}


def test_producers_at_every_broker_write_one_partition_at_once(new_cluster):
    """Each speaks to its own broker alone, by the protocol: offsets are unique and without gaps."""
    cluster = new_cluster()
    cluster.create_topic("t", 1)
    offsets, batches = [[] for _ in cluster.brokers], 40

    def write(broker, seen):
        with broker.connect() as connection:
            for _ in range(batches):
                answer = connection.produce("t", 0, FIVE)
                assert answer.error == wire.NONE
                seen.append(answer.offset)

    writers = [threading.Thread(target=write, args=pair) for pair in zip(cluster.brokers, offsets)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    taken = sorted(sum(offsets, []))
    assert taken == list(range(0, 5 * batches * len(cluster.brokers), 5))
    assert all(seen == sorted(seen) for seen in offsets)


def test_a_killed_broker_is_not_missed(new_cluster):
    cluster = new_cluster()
    cluster.create_topic("t", 3)
    first, second, third = (numbered(1000 * i, 1000) for i in range(3))
    librdkafka.produce(cluster.brokers[1], "t", first)
    cluster.brokers[1].kill()
    began = time.monotonic()
    librdkafka.produce(cluster.brokers[0], "t", second, enable_idempotence=True)
    assert time.monotonic() - began < LEASE, "nobody waited for its session to end"
    dataset.assert_same(librdkafka.consume(cluster.brokers[2], "t", 2000, partitions=1), first + second)
    wait_until(lambda: brokers_seen(cluster.brokers[0]) == {0, 2}, "its session is ended", seconds=3 * LEASE)
    cluster.brokers[1].start()
    librdkafka.produce(cluster.brokers[1], "t", third)
    dataset.assert_same(librdkafka.consume(cluster.brokers[1], "t", 3000, partitions=1), first + second + third)


def test_a_restarted_broker_takes_its_session_over_at_once(new_cluster):
    broker = new_cluster(brokers=1).brokers[0]
    broker.create_topic("t", 1)
    for round in range(3):
        librdkafka.produce(broker, "t", numbered(100 * round, 100))
        broker.kill()
        began = time.monotonic()
        broker.start()
        assert time.monotonic() - began < LEASE / 2
    assert len(librdkafka.consume(broker, "t", 300, partitions=1)) == 300


def test_a_second_broker_of_the_same_id_is_refused(new_cluster, scratch, topic_name):
    cluster = new_cluster(brokers=2)
    first = cluster.brokers[0]
    second = Broker(scratch / f"{topic_name}-second", 0, cluster.etcd, cluster.s3, first.prefix)
    second.place = lambda: [flag for flag in Broker.place(second) if not flag.startswith("--identity")]
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=120, env=second.environment())
    assert done.returncode == 1
    assert "broker id 0 is in use by a live broker with another identity" in done.stderr
    first.create_topic("t", 1)


def test_a_broker_that_slept_past_its_lease_writes_nothing_more(new_cluster):
    cluster = new_cluster(brokers=2)
    cluster.create_topic("t", 1)
    asleep, awake = cluster.brokers
    librdkafka.produce(asleep, "t", numbered(0, 10))
    asleep.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: brokers_seen(awake) == {1}, "the sleeper's session is ended", seconds=3 * LEASE)
    librdkafka.produce(awake, "t", numbered(10, 10))
    asleep.process.send_signal(signal.SIGCONT)
    assert asleep.process.wait(30) == 1, "it ends, and whoever supervises it starts it again"
    assert "ended this broker's session" in asleep.log_text()
    asleep.start()
    dataset.assert_same(librdkafka.consume(asleep, "t", 20, partitions=1), numbered(0, 20))


def test_while_etcd_is_away_reads_go_on_and_writes_wait(new_cluster, scratch, topic_name):
    etcd = Etcd(scratch / f"{topic_name}-etcd").start()
    cluster = Cluster(scratch / topic_name, brokers=2, prefix=topic_name, etcd=etcd, s3=new_cluster(brokers=0).s3).start()
    try:
        cluster.create_topic("t", 1)
        entries = numbered(0, 500)
        librdkafka.produce(cluster.brokers[0], "t", entries[:100])
        etcd.kill()
        later = threading.Thread(target=librdkafka.produce, args=(cluster.brokers[1], "t", entries[100:]), kwargs={"enable_idempotence": True})
        later.start()
        for broker in cluster.brokers:
            with broker.connect() as connection:
                (answer,) = connection.fetch("t", {0: 0})
                assert answer.error == wire.NONE and answer.records
        etcd.start()
        later.join(120)
        assert not later.is_alive()
        for broker in cluster.brokers:
            dataset.assert_same(librdkafka.consume(broker, "t", 500, partitions=1), entries)
    finally:
        cluster.stop()
        etcd.stop()


def test_a_bucket_that_fails_while_a_start_reads_the_state_is_asked_again(new_cluster):
    """It has answered a moment before, when the start looked whether it can be used."""
    cluster = new_cluster(brokers=1, arguments=["--snapshot-entries=10"])
    (broker,), s3 = cluster.brokers, cluster.s3
    broker.create_topic("t", 1)
    with broker.connect() as connection:
        for _ in range(60):
            assert connection.produce("t", 0, FIVE).error == wire.NONE
    wait_until(lambda: broker.log_text().count("journal truncated") > 1, "there are snapshots")
    broker.kill()
    before = get_count(s3)
    broker.start()
    broker.kill()
    # The last thing that a start reads is the snapshot.
    s3.faults(get={"plan": ["none"] * (get_count(s3) - before - 1) + ["unavailable"] * 6})
    try:
        broker.start()
    finally:
        s3.faults()
    assert "the state could not be read yet" in broker.log_text()
    assert len(librdkafka.consume(broker, "t", 300, partitions=1)) == 300


def get_count(s3):
    return s3.stats()["methods"]["get"]["requests"]


def test_bucket_and_etcd_must_belong_together(new_cluster, scratch, topic_name):
    one, other = new_cluster(brokers=1), new_cluster(brokers=1)
    cases = [
        (one.brokers[0].prefix, other.brokers[0].prefix, "one of --store and --journal is wrong"),
        (one.brokers[0].prefix, f"{topic_name}-nowhere", "etcd has no cluster under"),
        (f"{topic_name}-nowhere", one.brokers[0].prefix, "the bucket belongs to nobody"),
    ]
    for bucket_prefix, root, words in cases:
        broker = Broker(scratch / f"{topic_name}-mixed", 7, one.etcd, one.s3, bucket_prefix)
        flags = [f for f in broker.place() if not f.startswith(("--journal", "--store"))]
        flags += [f"--store=s3://{BUCKET}/{bucket_prefix}", f"--journal=etcd://{one.etcd.address}/{root}"]
        broker.place = lambda flags=flags: flags
        done = subprocess.run(broker.command(), capture_output=True, text=True, timeout=60, env=broker.environment())
        assert done.returncode == 1 and words in done.stderr, done.stderr


def test_an_etcd_restored_from_an_old_backup_is_noticed(new_cluster, scratch, topic_name):
    etcd = Etcd(scratch / f"{topic_name}-etcd").start()
    s3 = new_cluster(brokers=0).s3
    cluster = Cluster(scratch / topic_name, brokers=1, prefix=topic_name, etcd=etcd, s3=s3, arguments=["--snapshot-entries=10"]).start()
    broker = cluster.brokers[0]
    try:
        broker.create_topic("t", 1)
        etcd.kill()
        shutil.copytree(etcd.directory / "data", etcd.directory / "backup")
        etcd.start()
        with broker.connect() as connection:
            for _ in range(60):
                assert connection.produce("t", 0, FIVE).error == wire.NONE
        wait_until(lambda: "snapshot published" in broker.log_text(), "there is a snapshot")
        etcd.kill()
        shutil.rmtree(etcd.directory / "data")
        shutil.copytree(etcd.directory / "backup", etcd.directory / "data")
        etcd.start()
        assert broker.process.wait(60) == 1, "a running broker stops"
        assert "went back in time" in broker.log_text()
        done = subprocess.run(broker.command(), capture_output=True, text=True, timeout=60, env=broker.environment())
        assert done.returncode == 1 and "went back in time" in done.stderr, done.stderr
    finally:
        cluster.stop()
        etcd.stop()


# ----------------------------------------------------------------------------------------------- whom clients are sent to


def leaders_seen(broker, topic):
    listing = subprocess.run(["kcat", "-L", "-J", "-t", topic, "-b", broker.bootstrap], capture_output=True, text=True, check=True, timeout=30)
    return {p["leader"] for t in json.loads(listing.stdout)["topics"] for p in t["partitions"]}


def test_nobody_is_sent_to_a_broker_that_was_killed(new_cluster):
    """Long before its lease has run out."""
    cluster = new_cluster()
    cluster.create_topic("t", 30)
    one, killed, other = cluster.brokers
    wait_until(lambda: leaders_seen(one, "t") == {0, 1, 2}, "all lead")
    time.sleep(1)
    killed.kill()
    began = time.monotonic()
    for broker in (one, other):
        wait_until(lambda: 1 not in leaders_seen(broker, "t") | brokers_seen(broker), "it is not named any more", seconds=LEASE / 2)
    assert time.monotonic() - began < LEASE / 2
    killed.start()
    wait_until(lambda: leaders_seen(one, "t") == {0, 1, 2}, "it leads again")


def test_clients_are_led_to_their_zone(new_cluster):
    cluster = new_cluster(racks=("a", "b", "a"))
    cluster.create_topic("t", 30)
    listing = subprocess.run(
        ["kcat", "-L", "-J", "-t", "t", "-b", cluster.brokers[0].bootstrap, "-X", "client.id=zone=b"], capture_output=True, text=True, check=True
    )
    assert {p["leader"] for t in json.loads(listing.stdout)["topics"] for p in t["partitions"]} == {1}
    assert leaders_seen(cluster.brokers[0], "t") == {0, 1, 2}


class Member(threading.Thread):
    """A consumer of a group that commits what it has read, and notes what happened to it."""

    def __init__(self, cluster, group, topic):
        super().__init__()
        self.consumer = librdkafka.consumer(cluster, group_id=group, auto_offset_reset="earliest", session_timeout_ms=30_000)
        self.rebalances, self.commits, self.read, self.errors, self.stopping = 0, [], 0, [], False
        self.consumer.subscribe([topic], on_assign=self.count, on_revoke=self.count)

    def count(self, _consumer, _partitions):
        self.rebalances += 1

    def run(self):
        while not self.stopping:
            message = self.consumer.poll(0.1)
            if message is None or message.error():
                continue
            self.read += 1
            try:
                done = self.consumer.commit(message=message, asynchronous=False)
                self.commits.append((time.monotonic(), done[0].partition, done[0].offset))
            except Exception as error:  # noqa: BLE001 — whatever it is, the test says so
                self.errors.append((time.monotonic(), str(error)))
        self.consumer.close()


def coordinator_of(cluster, group):
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    return admin.describe_consumer_groups([group])[group].result(30).coordinator.id


def test_a_killed_coordinator_s_group_goes_on_at_the_next_broker(new_cluster):
    cluster = new_cluster()
    cluster.create_topic("t", 6)
    members = [Member(cluster, "g", "t") for _ in range(3)]
    for member in members:
        member.start()
    stop = threading.Event()

    def write():
        sender, i = librdkafka.producer(cluster), 0
        while not stop.is_set():
            sender.produce("t", b"%d" % i, partition=i % 6)
            i += 1
            sender.poll(0.01)
        sender.flush(60)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: all(len(m.commits) > 5 for m in members), "all members read and commit")
        before = [m.rebalances for m in members]
        victim = cluster.brokers[coordinator_of(cluster, "g")]
        victim.kill()
        killed = time.monotonic()
        wait_until(lambda: all(sum(at > killed + 1 for at, *_ in m.commits) > 5 for m in members), "all go on", seconds=60)
        first = max(min(at for at, *_ in m.commits if at > killed + 1) for m in members) - killed
        print(f"the last member's first commit came {first:.1f} s after the kill")
        assert [m.rebalances for m in members] == before, "nobody joined again"
        assert first < 3 * LEASE
        for partition in range(6):
            offsets = [c[2] for c in sorted(sum((m.commits for m in members), [])) if c[1] == partition]
            assert offsets == sorted(offsets), "no commit went back"
    finally:
        stop.set()
        writer.join()
        for member in members:
            member.stopping = True
        for member in members:
            member.join(30)
