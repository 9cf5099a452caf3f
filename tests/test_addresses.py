"""Where clients are sent: the advertised address of the listener by which they came in.

The newcomer's first failure is here: the first connection works, since the person typed its address, and everything
after it fails, since the client goes on to the address that the broker told it. `MappedPort` plays the container's
mapped port; a port on which nobody listens plays an address that only means something inside of the container.
"""

import asyncio
import json
import socket
import subprocess

import pytest
from harness import java, librdkafka, wire
from harness.dataset import Entry
from harness.nat import MappedPort
from harness.server import HOST, Kafscale, free_port, wait_until

pytestmark = pytest.mark.ours("its own flags")

ENTRIES = [Entry(0, i, 1_700_000_000_000 + i, b"k", b"v%d" % i, ()) for i in range(1_000)]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def own(scratch, topic_name):
    server = Kafscale(scratch / topic_name)
    yield server
    server.stop()


class At:
    """A server as seen through another address."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap


def told(bootstrap):
    """The addresses of brokers that a client learns at `bootstrap`, from kcat, which writes IPv6 without brackets."""
    done = subprocess.run(["kcat", "-b", bootstrap, "-L", "-J"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    addresses = [broker["name"].rpartition(":") for broker in json.loads(done.stdout)["brokers"]]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, _, port in addresses]


def round_trip(server, topic, bootstrap):
    """Writes through `bootstrap` and reads it back through the same."""
    server.create_topic(topic)
    librdkafka.produce(At(bootstrap), topic, ENTRIES)
    got = librdkafka.consume(At(bootstrap), topic, len(ENTRIES), partitions=1)
    assert [e.value for e in got] == [e.value for e in ENTRIES]


def coordinated(bootstrap, topic):
    """The records that a consumer group reads through `bootstrap`: its coordinator must be reached there too."""
    consumer = librdkafka.consumer(At(bootstrap), group_id=bootstrap, auto_offset_reset="earliest")
    consumer.subscribe([topic])
    try:
        got = wait_until(lambda: consumer.consume(len(ENTRIES), timeout=1), f"a member of a group at {bootstrap} gets records")
        while len(got) < len(ENTRIES) and (more := consumer.consume(len(ENTRIES), timeout=10)):
            got += more
        consumer.commit(message=got[-1], asynchronous=False)
        return len(got)
    finally:
        consumer.close()


def test_behind_a_mapped_port_the_advertised_address_decides(own):
    with MappedPort(own.address) as mapped:
        inside = f"{HOST}:{free_port()}"
        own.arguments = ["--advertise", inside]
        own.start()
        own.create_topic("t")
        # The failure: bootstrap works and shows where the client is sent next, which nobody outside can reach.
        assert told(mapped.bootstrap) == [inside]
        failed = []
        producer = librdkafka.producer(At(mapped.bootstrap), message_timeout_ms=3_000)
        producer.produce("t", b"v", on_delivery=lambda error, _: failed.append(error.name()))
        producer.flush(30)
        assert failed == ["_MSG_TIMED_OUT"]
        own.terminate()

        # Its cure: the address as the client sees it.
        own.arguments = ["--advertise", mapped.bootstrap]
        own.start()
        assert told(mapped.bootstrap) == [mapped.bootstrap]
        before, accepted = mapped.count, own.metric("kafscale_connections_accepted_total")
        round_trip(own, "u", mapped.bootstrap)
        # One connection of the harness creates the topic; every other one came by the mapped port.
        assert own.metric("kafscale_connections_accepted_total") - accepted == mapped.count - before + 1


def test_each_listener_tells_its_own_address(own):
    outside = (HOST, free_port())
    with MappedPort(outside) as mapped:
        own.listen = f"INSIDE={own.bootstrap},OUTSIDE={HOST}:{outside[1]}"
        own.arguments = ["--advertise", f"OUTSIDE=localhost:{mapped.address[1]}"]
        own.start()
        assert told(own.bootstrap) == [own.bootstrap]
        assert told(mapped.bootstrap) == [f"localhost:{mapped.address[1]}"]
        for address, expected in [(own.address, own.address), (mapped.address, ("localhost", mapped.address[1]))]:
            with wire.Connection(address) as raw:
                *_, brokers = raw.describe_cluster()
                assert list(brokers.values()) == [expected]
        round_trip(own, "inside", own.bootstrap)
        round_trip(own, "outside", mapped.bootstrap)
        for bootstrap in (own.bootstrap, mapped.bootstrap):
            assert coordinated(bootstrap, "outside") == len(ENTRIES)
            done = java.tool("kafka-topics", "--bootstrap-server", bootstrap, "--list")
            assert done.returncode == 0 and "outside" in done.stdout, done.stderr


def test_kafka_s_notation_and_variables(own):
    other = free_port()
    own.listen = f"A://{own.bootstrap},B://{HOST}:{other}"
    environment = own.environment
    own.environment = lambda: environment() | {"KAFSCALE_ADVERTISE": f"A://{own.bootstrap},B://b.example:7"}
    own.start()
    assert told(f"{HOST}:{other}") == ["b.example:7"]
    text = own.log_text()
    assert f"Kafka on {own.bootstrap}, b.example:7 (B)" in text, text


@ipv6
def test_ipv6_with_several_clients(own):
    port = free_port()
    address = f"[::1]:{port}"
    own.listen = f"V4={own.bootstrap},V6={address}"
    own.start()
    assert told(address) == [address]
    round_trip(own, "librdkafka", address)

    own.create_topic("python")
    asyncio.run(asyncio.wait_for(aiokafka_round_trip(address, "python"), 60))

    own.create_topic("java")
    sent = java.tool("kafka-console-producer", "--bootstrap-server", address, "--topic", "java", stdin="hello\n")
    assert sent.returncode == 0, sent.stderr
    settings = ["--partition", "0", "--offset", "earliest", "--max-messages", "1", "--timeout-ms", "30000"]
    got = java.tool("kafka-console-consumer", "--bootstrap-server", address, "--topic", "java", *settings)
    assert got.stdout == "hello\n", got.stderr


async def aiokafka_round_trip(address, topic):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        await producer.send_and_wait(topic, b"hello")
    async with AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        assert (await consumer.getone()).value == b"hello"


@ipv6
def test_every_ipv6_address_takes_ipv4_too(own):
    own.listen = f"[::]:{own.port}"
    own.arguments = ["--advertise", f"[::1]:{own.port}"]
    own.start()
    assert told(own.bootstrap) == [f"[::1]:{own.port}"], "asked over IPv4"
    round_trip(own, "t", f"[::1]:{own.port}")
