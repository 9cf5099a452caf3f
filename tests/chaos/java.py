"""Kafka's own producer in Java, idempotent as it is by default, in a process of its own that tells what it is told."""

import subprocess
import threading

from harness import java
from kill.checker import SOMEWHERE, Attempt, Stream

from .tally import ACKNOWLEDGED, REFUSED_ATTEMPT

NANO = 1e-9  # both clocks are the kernel's monotonic one


class JavaProducer(threading.Thread):
    def __init__(self, cluster, topic, partitions, name, tally):
        super().__init__(name=name, daemon=True)
        self.partitions, self.tally = partitions, tally
        self.streams = {(name, p): Stream(idempotent=True) for p in range(partitions)}
        self.attempts, self.problems = {}, []
        self.acknowledged, self.failure = 0, None
        self.over, self.paused = threading.Event(), threading.Event()
        arguments = [cluster.bootstrap, topic, partitions, name]
        # Its own log says of every connection that breaks.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = java.start("ChaosProducer", *arguments, **pipes)

    @property
    def progress(self):
        return self.acknowledged

    def order(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def resume(self):
        self.order("go")

    def pause(self):
        self.paused.clear()
        self.order("pause")
        assert self.paused.wait(120), f"{self.name} still has records without an answer after two minutes"

    def stop(self):
        """Whatever it is doing."""
        self.over.set()
        self.process.kill()
        self.process.wait()
        self.join(60)

    def run(self):
        try:
            for line in self.process.stdout:
                self.hear(*line.split(None, 2))
            assert self.over.is_set(), f"it ended with code {self.process.wait()}"
        except Exception as error:  # noqa: BLE001: the test is told, whatever it is
            self.failure = error

    def hear(self, word, number=None, rest=""):
        if word == "paused":
            self.paused.set()
        elif word == "sent":
            attempt = self.attempts[number] = Attempt(int(number), sent=int(rest) * NANO)
            self.streams[self.name, int(number) % self.partitions].attempts.append(attempt)
        elif word == "acknowledged":
            offset, when = rest.split()
            attempt = self.attempts.pop(number)
            # Without an offset Java was told that it was a duplicate.
            attempt.outcome = int(offset) if int(offset) >= 0 else SOMEWHERE
            attempt.answered = int(when) * NANO
            self.acknowledged += 1
            self.tally.count(self.name, ACKNOWLEDGED)
        else:
            self.tally.count(self.name, REFUSED_ATTEMPT)
            # Five minutes of retries are longer than any fault here.
            self.problems.append(f"{self.name}: record {number} was given up: {rest.strip()}")
