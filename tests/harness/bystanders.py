"""A producer and a consumer that go on beside an attack, and lose no request.

Both are raw connections that are opened once and must stay: any error code, closed connection or answer that does not
come is kept and fails the test. Between them every record must come through, in order.
"""

import threading
import time

from . import wire
from .server import wait_until


class Bystanders:
    def __init__(self, server, topic):
        self.server, self.topic = server, topic
        server.create_topic(topic)
        self.written, self.read, self.trouble = 0, 0, []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=[work]) for work in (self.write_all, self.read_all)]

    def guard(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001: whatever it is, the test is told
            self.trouble.append(f"{work.__name__}: {error!r}")

    def write_all(self):
        with self.server.connect(timeout=120) as connection:
            while not self.done.is_set():
                batch = wire.record_batch([wire.Record(None, b"%d" % self.written)])
                answer = connection.produce(self.topic, 0, batch)
                assert (answer.error, answer.offset) == (wire.NONE, self.written), answer
                self.written += 1
                time.sleep(0.005)

    def read_all(self):
        with self.server.connect(timeout=120) as connection:
            while not self.done.is_set() or self.read < self.written:
                (answer,) = connection.fetch(self.topic, {0: self.read}, max_wait_ms=200)
                assert answer.error == wire.NONE, answer
                for batch in wire.decode_batches(answer.records or b""):
                    for offset, record in batch.records:
                        assert (offset, record.value) == (self.read, b"%d" % self.read)
                        self.read += 1

    def make_progress(self, records=50, seconds=120):
        """Waits until both have got `records` further."""
        goal = max(self.written, self.read) + records
        wait_until(lambda: self.trouble or min(self.written, self.read) >= goal, "producer and consumer go on", seconds)
        assert not self.trouble, self.trouble

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.make_progress()
        return self

    def __exit__(self, kind, *_):
        self.done.set()
        for thread in self.threads:
            thread.join()
        if kind is None:
            assert not self.trouble, self.trouble
            assert self.read == self.written
