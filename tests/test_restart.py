"""The server stops when it is told to, dies when it is killed, and has everything when it comes back."""

import re
import signal
import threading

import pytest
from harness import dataset, librdkafka, wire
from harness.server import wait_until


@pytest.fixture
def own(new_server):
    server = new_server().start()
    yield server
    server.stop()


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_everything_is_there_after_a_restart(own, topic_name, kind, end):
    entries = dataset.reference_entries(100_000)
    own.create_topic(topic_name, 3)
    own.create_topic(topic_name + "-empty", 5)
    librdkafka.produce(own, topic_name, entries, compression_type="lz4")
    with own.connect() as raw:
        before = raw.metadata()
        producer = raw.init_producer_id()
        sequenced = wire.record_batch([wire.Record(None, b"v")], producer=(*producer, 0))
        assert raw.produce(topic_name + "-empty", 0, sequenced).offset == 0
    if end == "SIGTERM":
        # A virtual machine says 128 + 15.
        assert own.terminate() == (143 if kind == "kafka" else 0)
    else:
        own.kill()
    own.start()
    with own.connect() as raw:
        own.wait_writable(raw, topic_name, 3)
        own.wait_writable(raw, topic_name + "-empty", 5)
        assert raw.metadata() == before, "the same topics with the same ids"
        assert raw.init_producer_id()[0] > producer[0], "no id is given twice"
        if kind == "kafscale":
            # (Kafka forgets at its start producers whose records are a day old, as this one's are.)
            assert raw.produce(topic_name + "-empty", 0, sequenced).offset == 0, "a repeated batch is still known"
    dataset.assert_same(librdkafka.consume(own, topic_name, len(entries)), entries)


def test_sigterm_answers_what_it_has_taken(own, topic_name, kind):
    """A request in flight at SIGTERM is answered, or its connection closed; whatever was acknowledged is there."""
    own.create_topic(topic_name)
    acknowledged = []

    def write():
        with own.connect() as raw:
            try:
                while True:
                    batch = wire.record_batch([wire.Record(None, b"%d" % len(acknowledged))])
                    answer = raw.produce(topic_name, 0, batch)
                    if answer.error != wire.NONE:
                        return
                    acknowledged.append(answer.offset)
            except OSError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(acknowledged) > 50, "some are written")
    assert own.terminate() == (143 if kind == "kafka" else 0)
    writer.join()
    own.start()
    with own.connect() as raw:
        own.wait_writable(raw, topic_name, 1)
        end = raw.list_offset(topic_name, 0, wire.LATEST)[2]
    assert acknowledged == list(range(len(acknowledged))) and end in (len(acknowledged), len(acknowledged) + 1)
    got = librdkafka.consume(own, topic_name, end, partitions=1)
    assert [e.value for e in got] == [b"%d" % i for i in range(end)]


@pytest.mark.ours("pages of its own")
def test_health_and_metrics(own):
    assert own.http("/livez") is not None and own.http("/readyz") is not None
    assert re.search(r"^# TYPE kafscale_\w+ (counter|gauge|histogram)$", own.http("/metrics"), re.M)
    own.process.send_signal(signal.SIGTERM)
    assert own.process.wait(30) == 0
    assert own.http("/livez") is None


@pytest.mark.ours("Kafka reads all its segments after a kill")
def test_many_restarts_in_a_row(own, topic_name):
    own.create_topic(topic_name)
    for life in range(10):
        with own.connect() as raw:
            assert raw.produce(topic_name, 0, wire.record_batch([wire.Record(None, b"v")])).offset == life
        own.kill() if life % 2 else own.terminate()
        own.start()
    assert len(librdkafka.consume(own, topic_name, 10, partitions=1)) == 10
