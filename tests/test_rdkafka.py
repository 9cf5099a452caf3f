"""librdkafka through Rust's `rdkafka`: a newer librdkafka than kcat's, in another build than confluent-kafka's."""

import pytest
from harness import dataset, librdkafka, rust
from harness.limits import LARGEST_SINGLE_VALUE

pytestmark = pytest.mark.client("rdkafka")

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def entries():
    return dataset.reference_entries(seed=2)


@pytest.fixture(scope="module")
def records_file(entries, scratch):
    path = scratch / "rdkafka-records.bin"
    dataset.write(path, entries)
    return path


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "plain"])
def test_every_record_comes_back_as_it_went(server, topic_name, entries, records_file, tmp_path, codec, idempotent):
    server.create_topic(topic_name, 3)
    mode = "enable.idempotence=true" if idempotent else "max.in.flight=1"
    rust.run("produce", server.bootstrap, topic_name, records_file, f"compression.type={codec}", mode)
    rust.run("consume", server.bootstrap, topic_name, tmp_path / "read.bin")
    dataset.assert_same(dataset.read(tmp_path / "read.bin"), entries)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_kind_of_acknowledgement(server, topic_name, entries, records_file, acks):
    server.create_topic(topic_name, 3)
    rust.run("produce", server.bootstrap, topic_name, records_file, f"acks={acks}", "max.in.flight=1")
    dataset.assert_same(librdkafka.consume(server, topic_name, len(entries)), entries)


def test_records_of_a_million_bytes(server, topic_name, tmp_path):
    server.create_topic(topic_name)
    values = [bytes([i]) * 1_000_000 for i in range(20)]
    large = [dataset.Entry(0, i, dataset.FIRST_TIMESTAMP + i, None, v, ()) for i, v in enumerate(values)]
    dataset.write(tmp_path / "large.bin", large)
    rust.run("produce", server.bootstrap, topic_name, tmp_path / "large.bin", "message.max.bytes=1048000")
    rust.run("consume", server.bootstrap, topic_name, tmp_path / "read.bin")
    dataset.assert_same(dataset.read(tmp_path / "read.bin"), large)


def test_the_size_limit_is_exact(server, topic_name):
    server.create_topic(topic_name)
    rust.run("limit", server.bootstrap, topic_name, LARGEST_SINGLE_VALUE)


def test_watermarks_and_offsets_for_times(server, topic_name, entries):
    server.create_topic(topic_name, 3)
    some = entries[:30_000]
    librdkafka.produce(server, topic_name, some, compression_type="snappy")
    times = [dataset.FIRST_TIMESTAMP + t for t in (0, 4_321, 20_000)]
    expected = []
    for partition in range(3):
        mine = [e for e in some if e.partition == partition]
        expected.append(f"{partition} watermarks 0 {len(mine)}")
        expected += [f"{partition} {t} Offset({next(e.offset for e in mine if e.timestamp >= t)})" for t in times]
    assert rust.run("times", server.bootstrap, topic_name, *times).splitlines() == expected
