"""The order of fsync and answer, read off the system calls of the binary: what is acknowledged would survive a power
failure at any moment. (That a file system keeps what was fsynced is its own promise.)"""

import os

import pytest
from harness import strace, wire

SAMPLE = """\
10    write(5</d/objects/b/aa/n-1>, ""..., 100) = 100
10    fdatasync(5</d/objects/b/aa/n-1> <unfinished ...>
11    recvfrom(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 10, 0, NULL, NULL) = 10
10    <... fdatasync resumed>)          = 0
10    fsync(6</d/objects/b/aa>)         = 0
12    pwrite64(7</d/journal/1>, ""..., 50, 0) = 50
12    fdatasync(7</d/journal/1>)        = 0
11    sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 10, 0, NULL, 0) = 10
"""


def steps(data, client, calls):
    """What must happen for one produce request, in this order."""
    journal = f"{data}/journal/"
    written = [c.target for c in calls if c.is_write() and c.target.startswith(f"{data}/objects/")]
    stored = written[0] if written else "an object"
    return [
        ("write of the object", lambda c: c.is_write() and c.target == stored),
        ("fsync of the object", lambda c: c.is_sync() and c.target == stored),
        ("fsync of its directory", lambda c: c.is_sync() and c.target == os.path.dirname(stored)),
        ("write of the journal", lambda c: c.is_write() and c.target.startswith(journal)),
        ("fsync of the journal", lambda c: c.is_sync() and c.target.startswith(journal)),
        ("answer on the socket", lambda c: is_answer(c, client)),
    ]


def is_answer(call, client):
    return call.is_write() and call.target.endswith(f"->{client}]")


def first_missing(text):
    calls = strace.parse(text)
    return strace.check_chain(calls, steps("/d", "127.0.0.1:2", calls))


def test_the_reader_of_traces_sees_the_right_order_and_each_wrong_one():
    lines = SAMPLE.splitlines(keepends=True)
    assert first_missing(SAMPLE) is None
    answer_first = [lines[7], *lines[:7]]
    journal_first = [*lines[5:7], *lines[:5], lines[7]]
    assert first_missing("".join(answer_first)) == "answer on the socket"
    assert first_missing("".join(journal_first)) == "write of the journal"
    each = {(1, 3): "fsync of the object", (4,): "fsync of its directory", (6,): "fsync of the journal", (7,): "answer on the socket"}
    for gone, step in each.items():
        assert first_missing("".join(line for i, line in enumerate(lines) if i not in gone)) == step


def test_a_call_that_overlaps_is_not_before():
    text = """\
1 fsync(3</d/a> <unfinished ...>
2 write(4</d/b>, ""..., 1) = 1
1 <... fsync resumed>) = 0
"""
    order = [("sync", lambda c: c.is_sync()), ("write", lambda c: c.is_write())]
    assert strace.check_chain(strace.parse(text), order) == "write"


@pytest.mark.ours("Kafka answers before its data is on the disk")
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="strace is Linux's")
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "plain"])
def test_an_answer_comes_after_every_fsync(new_server, topic_name, tmp_path, idempotent):
    server = new_server().start()
    server.create_topic(topic_name, 4)
    trace, requests = tmp_path / "trace", 20
    with server.connect() as raw:
        client = "%s:%d" % raw.socket.getsockname()
        producer = raw.init_producer_id() if idempotent else (-1, -1)
        with strace.attached(server, trace):
            for i in range(requests):
                sequence = i // 4 if idempotent else -1
                batch = wire.record_batch([wire.Record(None, b"v" * 1000)], producer=(*producer, sequence))
                assert raw.produce(topic_name, i % 4, batch).error == wire.NONE
    server.stop()
    calls = strace.parse(trace.read_text())
    answers = [call for call in calls if is_answer(call, client)]
    assert len(answers) >= requests, "every answer is in the trace"
    start = 0
    for number, answer in enumerate(answers):
        between = [call for call in calls if start <= call.begin <= answer.end]
        missing = strace.check_chain(between, steps(server.data.resolve(), client, between))
        assert missing is None, f"request {number}: no {missing} in its place:\n" + "\n".join(map(str, between))
        start = answer.end
