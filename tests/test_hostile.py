"""Attacks on a server: it stays within its memory, and a producer and a consumer beside the attack lose no request."""

import contextlib
import itertools
import resource
import socket
import struct
import time
from pathlib import Path

import pytest
from harness import wire
from harness.bystanders import Bystanders
from harness.server import Sampler, wait_until

MIB = 1 << 20
# The byte budget: what the broker is given for requests and answers, and for its cache; and what it may hold beyond it.
MEMORY, CACHE, ALLOWANCE = 128 * MIB, 64 * MIB, 128 * MIB

ONE = [wire.Record(None, b"v")]
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def target(new_server):
    server = new_server("--memory", MEMORY, "--cache", CACHE).start()
    yield server
    server.stop()


@pytest.fixture
def attack(target, kind):
    """A context in which the bystanders work and the memory is watched."""

    @contextlib.contextmanager
    def run():
        with Sampler(target) as memory, Bystanders(target, f"bystanders-{next(numbers)}") as bystanders:
            yield bystanders
            bystanders.make_progress()
        assert target.process.poll() is None, target.log_tail()
        if kind == "kafscale":
            allowed = MEMORY + CACHE + ALLOWANCE
            assert memory.highest <= allowed, f"{memory.highest / MIB:.0f} MiB were resident, {allowed / MIB:.0f} are allowed"

    return run


def open_sockets(target, count, timeout=60):
    """`count` connections that are closed with the block."""
    with contextlib.ExitStack() as building:
        opened = [building.enter_context(socket.create_connection(target.address, timeout=timeout)) for _ in range(count)]
        return building.pop_all(), opened


def frame_header(size):
    return struct.pack(">i", size) + wire.i16(wire.PRODUCE) + wire.i16(7) + wire.i32(1) + wire.string("slow")


@pytest.mark.ours("Kafka sets the whole frame aside at its first byte, and runs out of memory")
def test_frames_that_claim_much_and_send_little(target, attack):
    """Every connection claims ten megabytes and then sends nothing: the claims exceed any budget many times."""
    with attack() as bystanders:
        stack, sockets = open_sockets(target, 500)
        with stack:
            for one in sockets:
                one.sendall(frame_header(10_000_000))
            bystanders.make_progress()


def test_one_byte_a_second(target, attack):
    with attack() as bystanders:
        stack, sockets = open_sockets(target, 100)
        with stack:
            for one in sockets:
                one.sendall(frame_header(1_000_000))
            for _ in range(10):
                time.sleep(1)  # the attack itself
                for one in sockets:
                    with contextlib.suppress(ConnectionError):
                        one.sendall(b"x")
            bystanders.make_progress()


@pytest.mark.ours("Kafka waits for ever for the rest of a frame")
def test_a_half_sent_frame_has_a_time_limit(target):
    with socket.create_connection(target.address, timeout=180) as one:
        one.sendall(frame_header(1_000_000))
        assert one.recv(1) == b"", "closed once its time is over"


def test_frames_longer_than_the_limit(target, attack):
    with attack() as bystanders:
        for _ in range(500):
            with target.connect() as raw:
                raw.socket.sendall(struct.pack(">i", 0x7FFFFFFF) + b"x" * 1000)
                raw.wait_closed()
        bystanders.make_progress()


def test_arrays_of_two_billion(target, attack):
    bodies = {
        (wire.METADATA, 5): wire.i32(2_000_000_000),
        (wire.METADATA, 12): wire.uvarint(2_000_000_001),
        (wire.PRODUCE, 7): wire.string(None) + wire.i16(-1) + wire.i32(1) + wire.i32(2_000_000_000),
        (wire.FETCH, 4): wire.i32(-1) + wire.i32(1) + wire.i32(1) + wire.i32(1) + b"\0" + wire.i32(2_000_000_000),
        (wire.CREATE_TOPICS, 4): wire.i32(2_000_000_000),
        (wire.DELETE_TOPICS, 3): wire.i32(2_000_000_000),
        (wire.LIST_OFFSETS, 1): wire.i32(-1) + wire.i32(2_000_000_000),
    }
    with attack():
        for _ in range(50):
            for (api, version), body in bodies.items():
                with target.connect() as raw:
                    raw.send(api, version, body)
                    raw.wait_closed()


def test_noise(target, attack):
    source = iter(lambda: struct.pack(">Q", next(numbers) * 0x9E3779B97F4A7C15 & (1 << 64) - 1), None)
    with attack():
        for _ in range(500):
            with target.connect(timeout=5) as raw, contextlib.suppress(ConnectionError, TimeoutError):
                body = b"".join(itertools.islice(source, 20))
                raw.socket.sendall(struct.pack(">i", len(body)) + body)
                raw.wait_closed()


def test_ten_thousand_silent_connections(target, attack):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < 12_000:
        pytest.skip(f"this machine allows {limit[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with attack() as bystanders:
        stack, _ = open_sockets(target, 10_000)
        with stack:
            bystanders.make_progress()


def test_one_connection_every_millisecond(target, attack):
    with attack() as bystanders:
        began = time.monotonic()
        for i in range(5_000):
            time.sleep(max(0.0, began + i / 1000 - time.monotonic()))
            with socket.create_connection(target.address, timeout=60) as one:
                if i % 2:
                    one.sendall(wire.request_frame(wire.API_VERSIONS, 0, 1, b""))
        bystanders.make_progress()


def test_answers_that_nobody_reads(target, attack):
    """Fetches of a megabyte each, pipelined, and not a byte of the answers is taken."""
    topic = target.create_topic(f"unread-{next(numbers)}")
    with target.connect() as raw:
        for _ in range(20):
            assert raw.produce(topic, 0, wire.record_batch([wire.Record(None, bytes(900_000))])).error == wire.NONE
    with attack() as bystanders:
        stack, sockets = open_sockets(target, 50)
        with stack:
            fetch = wire.request_frame(wire.FETCH, 4, 1, wire.fetch_body(topic, {0: 0}))
            for one in sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    for _ in range(100):
                        one.send(fetch)
            bystanders.make_progress()


def test_many_large_produce_requests_at_once(target, attack):
    """Two hundred connections write a megabyte each, at once: all are served, some later."""
    topic = target.create_topic(f"flood-{next(numbers)}")
    body = wire.produce_body(topic, 0, wire.record_batch([wire.Record(None, bytes(1_000_000))]))
    with attack() as bystanders, contextlib.ExitStack() as stack:
        writers = [stack.enter_context(target.connect(timeout=120)) for _ in range(200)]
        for writer in writers:
            writer.send(wire.PRODUCE, 7, body)
        for writer in writers:
            (answer,) = wire.read_produce(writer.receive()[1], 7)
            assert answer.error == wire.NONE
        bystanders.make_progress()


def test_too_many_partitions_and_topics(target, attack):
    with attack(), target.connect(timeout=120) as raw:
        for count in (1_000_000, 2_000_000_000):
            name = f"wide-{next(numbers)}"
            assert raw.create_topics({name: count})[name][0] != wire.NONE
        many = {f"many-{next(numbers)}": 1000 for _ in range(2_000)}
        assert any(error != wire.NONE for error, _ in raw.create_topics(many).values()), "two million partitions in one request"


def test_requests_that_name_much_that_is_not_there(target, attack):
    names = [f"nowhere-{i}" for i in range(50_000)]
    with attack(), target.connect(timeout=120) as raw:
        assert len(raw.metadata(names)) == len(names)
        entries = [wire.string(name) + wire.array([wire.i32(0) + wire.i64(0) + wire.i32(1)]) for name in names]
        body = wire.i32(-1) + wire.i32(10) + wire.i32(1) + wire.i32(1000) + wire.i8(0) + wire.array(entries)
        answers = wire.read_fetch(raw.request(wire.FETCH, 4, body))
        assert {a.error for a in answers} == {wire.UNKNOWN_TOPIC_OR_PARTITION}


def test_bad_batches_one_after_the_other(target, attack):
    topic = target.create_topic(f"bad-{next(numbers)}")
    bad = [wire.record_batch(ONE, **lie) for lie in ({"crc": 1}, {"magic": 9}, {"count": 2_000_000_000}, {"length": 2_000_000_000})]
    # A zstd frame that says it grows to a gigabyte when it is unpacked.
    bad.append(wire.seal_batch(b"\x28\xb5\x2f\xfd\x80\0\0\0\x40", 1_000_000, wire.ZSTD, (-1, -1, -1), (0, 0), {}))
    with attack(), target.connect() as raw:
        for _ in range(200):
            for batch in bad:
                raw.produce(topic, 0, batch)
        assert raw.produce(topic, 0, wire.record_batch(ONE)).error == wire.NONE


def test_the_memory_is_given_back(target, kind):
    """After all of the above the connections are gone, and so is what they held."""
    wait_until(lambda: len(connections_of(target)) < 50, "the server has closed what its clients left", 120)


def connections_of(target):
    """Sockets that the server process holds open."""
    links = []
    for link in Path(f"/proc/{target.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    return [name for name in links if name.startswith("socket:")]
