"""Numbered records written beside a test until it ends, and what became of each."""

import threading

from .. import librdkafka
from ..server import wait_until


class Traffic:
    """A librdkafka producer, idempotent, at about a thousand records a second; `written` is {(partition, offset): value}
    of what was confirmed."""

    def __init__(self, server, topic, partitions):
        self.topic, self.partitions = topic, partitions
        self.producer = librdkafka.producer(server, enable_idempotence=True, reconnect_backoff_max_ms=200)
        self.written, self.refused = {}, []
        self.done, self.resting, self.round = threading.Event(), False, threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        number = 0
        while not self.done.wait(0.02):
            with self.round:
                for _ in range(0 if self.resting else 20):
                    self.producer.produce(self.topic, b"%d" % number, partition=number % self.partitions, on_delivery=self.report)
                    number += 1
            self.producer.poll(0)

    def report(self, error, message):
        if error:
            self.refused.append(error)
        else:
            self.written[message.partition(), message.offset()] = message.value()

    def rest(self):
        """No more records; returns when those that were sent are confirmed."""
        with self.round:
            self.resting = True
        wait_until(lambda: len(self.producer) == 0, "the records are confirmed")

    def go_on(self):
        self.resting = False

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Returns when every record has its answer; all must be good."""
        self.done.set()
        self.thread.join()
        left = self.producer.flush(120)
        assert left == 0 and not self.refused, f"{left} records without an answer, refused {self.refused[:3]}"
