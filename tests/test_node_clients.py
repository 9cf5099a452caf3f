"""kafkajs and @platformatic/kafka beside librdkafka: each reads what the other wrote, with every codec. What they do in
groups is in test_groups.py, their admin clients in test_group_admin.py."""

import pytest
from harness import dataset, librdkafka
from harness.groups import CLIENTS
from harness.groups.team import Team

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
COUNT = 100_000

each_client = pytest.mark.parametrize("client", ["kafkajs", "platformatic"])


@pytest.fixture(scope="module")
def reference():
    return dataset.reference_entries(COUNT)


@each_client
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.scenario("librdkafka reads what it wrote")
def test_librdkafka_reads_what_it_wrote(server, topic_name, reference, client, codec):
    entries = CLIENTS[client].entries(reference)
    server.create_topic(topic_name, 3)
    CLIENTS[client].produce(server, topic_name, entries, codec)
    dataset.assert_same(librdkafka.consume(server, topic_name, COUNT), entries)


@each_client
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.scenario("it reads what librdkafka wrote")
def test_it_reads_what_librdkafka_wrote(server, topic_name, reference, client, codec):
    server.create_topic(topic_name, 3)
    librdkafka.produce(server, topic_name, reference, compression_type=codec)
    with Team(CLIENTS[client], server, topic_name, 3) as reader:
        reader.join()
        reader.wait_for(COUNT)
        dataset.assert_same(reader.records(), reference)
