"""After a million produce requests the journal is short, and the next start reads a snapshot and a short tail."""

import re

import pytest
from harness import rust, wire

REQUESTS = 1_000_000
MIB = 1 << 20

# A snapshot is due after 8 MiB of entries at the latest; the journal keeps what follows the older of two.
MOST_JOURNAL_BYTES = 32 * MIB


@pytest.mark.ours("Kafka has no journal")
def test_a_million_requests_leave_a_short_journal(new_server, topic_name):
    server = new_server("--flush-per-second", "1000", "--snapshot-entries", "2000").start()
    server.create_topic(topic_name)
    one_record_a_request = ["batch.num.messages=1", "linger.ms=0", "acks=1", "queue.buffering.max.messages=100000"]
    rust.run("load", "produce", server.bootstrap, topic_name, 16, REQUESTS, *one_record_a_request, timeout=600)
    assert server.metric("kafscale_snapshots_total") >= 2
    server.kill()

    journal = list((server.directory / "data/journal").glob("*.log"))
    size = sum(file.stat().st_size for file in journal)
    assert size < MOST_JOURNAL_BYTES, [(file.name, file.stat().st_size) for file in journal]
    assert server.directory.joinpath("data/journal/00000000000000000001.log") not in journal, "its beginning is gone"

    before = len(server.log_text())
    server.start()
    loaded = re.search(r"state loaded.*snapshot=(\d+).*tail_bytes=(\d+)", server.log_text()[before:])
    snapshot, tail = map(int, loaded.groups())
    assert snapshot > 0 and tail <= 2 * 8 * MIB
    with server.connect() as raw:
        assert raw.list_offset(topic_name, 0, wire.LATEST)[2] == REQUESTS
    server.stop()
