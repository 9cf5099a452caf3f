"""What an operator sees of a running broker: metrics that add up, a log level that changes, slow requests by name."""

import re
import urllib.error
import urllib.request

import pytest
from confluent_kafka import TopicPartition
from harness import librdkafka, wire
from harness.dataset import Entry
from harness.server import HOST, ROOT, Kafscale, wait_until

pytestmark = pytest.mark.ours("its own metrics")


@pytest.fixture
def own(scratch, topic_name):
    server = Kafscale(scratch / topic_name)
    yield server
    server.stop()


def lines(server, pattern):
    return [line for line in server.log_text().splitlines() if re.search(pattern, line)]


def put_level(server, level, **headers):
    request = urllib.request.Request(f"http://{HOST}:{server.http_port}/log-level", data=level.encode(), method="PUT", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def values(text, name):
    """Lines of a metric as a dictionary from labels to value."""
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_metrics_add_up(own):
    own.start()
    own.create_topic("t", 3)
    batch = wire.record_batch([wire.Record(None, b"v" * 1000)])
    with own.connect() as raw:
        before = own.http("/metrics")
        for _ in range(20):
            assert raw.produce("t", 1, batch).error == wire.NONE
        assert raw.produce("nothing", 0, batch).error == wire.UNKNOWN_TOPIC_OR_PARTITION
        raw.fetch("t", {1: 0})
        after = own.http("/metrics")

    def grown(name, labels=""):
        return values(after, name)[labels] - values(before, name).get(labels, 0)

    produce = 'api="Produce"'
    assert grown("kafscale_requests_total", f'{produce},outcome="answered"') == 20
    assert grown("kafscale_requests_total", f'{produce},outcome="failed"') == 1
    assert grown("kafscale_answer_errors_total", f'{produce},error="UNKNOWN_TOPIC_OR_PARTITION"') == 1
    assert grown("kafscale_request_seconds_count", produce) == 21
    assert grown("kafscale_request_bytes_total", produce) > 21 * 1000
    assert grown("kafscale_response_bytes_total", 'api="Fetch"') > 20 * 1000
    assert grown("kafscale_batches_total") == 20 and grown("kafscale_batch_bytes_total") == 20 * len(batch)
    objects = grown("kafscale_uploads_total", 'outcome="stored"')
    assert 0 < objects <= 20 and objects == grown("kafscale_put_seconds_count") == grown("kafscale_commit_seconds_count")
    assert sum(values(after, "kafscale_flushes_total").values()) == values(after, "kafscale_uploads_total")['outcome="stored"']
    entries = grown("kafscale_appended_entries_total")
    assert objects <= entries == grown("kafscale_folded_entries_total") == grown("kafscale_journal_ordinal")
    files = list((own.data / "journal").glob("*.log"))
    assert values(after, "kafscale_journal_bytes")[""] == sum(f.stat().st_size for f in files)
    assert values(after, "kafscale_journal_files")[""] == len(files)
    assert (values(after, "kafscale_topics")[""], values(after, "kafscale_partitions")[""]) == (1, 3)
    assert values(after, "kafscale_connections_open") == {'listener="PLAINTEXT"': 1}
    assert grown("kafscale_cache_hits_total") >= 1, "a record that was just written is read from memory"


def test_groups_and_their_lag(own):
    own.start()
    own.create_topic("t", 2)
    librdkafka.produce(own, "t", [Entry(p, i, 1_700_000_000_000, b"k", b"v", ()) for p in range(2) for i in range(100)])
    consumer = librdkafka.consumer(own, group_id='a "group"', auto_offset_reset="earliest")
    consumer.subscribe(["t"])
    wait_until(lambda: consumer.consume(500, timeout=1), "the group gets records")
    text = own.http("/metrics")
    assert values(text, "kafscale_groups") == {f'state="{s}"': 0.0 for s in ("Empty", "PreparingRebalance", "CompletingRebalance")} | {'state="Stable"': 1.0}
    assert values(text, "kafscale_group_members")[""] == 1 and values(text, "kafscale_group_generations_total")[""] == 1
    assert values(text, "kafscale_group_lag") == {}, "nothing is committed yet"
    consumer.commit(offsets=[TopicPartition("t", 0, 40), TopicPartition("t", 1, 100)], asynchronous=False)
    labels = 'group="a \\"group\\"",topic="t",partition="{}"'
    assert values(own.http("/metrics"), "kafscale_group_lag") == {labels.format(0): 60, labels.format(1): 0}
    consumer.close()
    wait_until(lambda: values(own.http("/metrics"), "kafscale_groups")['state="Empty"'] == 1, "the group is empty")
    text = own.http("/metrics")
    assert values(text, "kafscale_group_lag_left_out")[""] == 0 and values(text, "kafscale_offset_commits_total")['outcome="stored"'] == 1


def test_every_metric_that_is_scraped_is_in_the_document(own):
    own.start()
    documented = set(re.findall(r"^\| `(kafscale_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    scraped = re.findall(r"^# TYPE (\w+) (\w+)$", own.http("/metrics"), re.MULTILINE)
    named = {(name + "_total" if kind == "counter" else name, kind) for name, kind in scraped}
    assert named and named <= documented, named - documented


def test_the_log_level_changes_while_it_runs(own):
    own.start()
    assert own.http("/log-level") == "info\n"
    assert not lines(own, "DEBUG")
    assert put_level(own, "info,kafscale_broker::api=debug") == (200, "info,kafscale_broker::api=debug\n")
    own.create_topic("t")
    assert lines(own, r"DEBUG.*kafscale_broker::api.*CreateTopics")
    assert all("kafscale_broker::api" in line for line in lines(own, "DEBUG"))
    status, said = put_level(own, "loud")
    assert status == 400 and '"loud"' in said and "error, warn, info, debug or trace" in said
    assert put_level(own, "trace", Origin="http://page.example")[0] == 403
    assert put_level(own, "warn")[0] == 200
    count = len(own.log_text())
    own.create_topic("u")
    assert len(own.log_text()) == count


def test_slow_requests_are_named_and_bounded(own):
    # Ten objects in a second at most: a producer that waits for each answer waits about 100 ms.
    own.arguments = ["--slow-request-ms", "20", "--flush-per-second", "10"]
    own.start()
    own.create_topic("t")
    batch = wire.record_batch([wire.Record(None, b"v")])
    with own.connect() as raw:
        for _ in range(25):
            raw.produce("t", 0, batch)
    slow = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines(own, "slow request")]
    named = r'api="Produce" peer=127\.0\.0\.1:\d+ listener="PLAINTEXT" client="raw" ms=\d+ topics=1'
    assert any(re.search(named, line) for line in slow), slow
    assert len(slow) <= 20, "ten lines in ten seconds"
    assert own.metric("kafscale_slow_requests_total") > 10


def test_lines_about_bad_requests_are_bounded(own):
    own.start()
    for _ in range(200):
        with own.connect() as raw:
            raw.send(999, 0, b"")
            raw.wait_closed()
    wait_until(lambda: own.metric("kafscale_connections_open") == 0, "all are closed")
    assert 10 <= len(lines(own, "unknown API key 999")) <= 20
