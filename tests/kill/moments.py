"""When to kill. Each moment waits until the server is just there, and returns.

What the server does inside is learned from the events in its log; `LOG_EVENTS` is the one place that knows their words.
"""

import random
import re
import time

from harness.server import wait_until

# A pattern for each piece of work a kill should fall into. A name without a pattern is not counted and not required.
LOG_EVENTS = {
    "snapshot": r"writing a snapshot",
    "truncation": r"truncating the journal",
}


class Moments:
    """Deals out moments, in turn, by a seed: most in traffic, the others often enough to be counted."""

    def __init__(self, server, seed):
        self.server, self.random = server, random.Random(seed)
        self.known = ["traffic", "start-up", *(name for name, pattern in LOG_EVENTS.items() if pattern)]
        self.counted = dict.fromkeys(self.known, 0)

    def deal(self, number):
        return self.known[number % len(self.known)]

    def count(self, name):
        self.counted[name] += 1

    def wait_in_traffic(self, producers, committers=(), acknowledged=200, commits=10):
        """Until every producer and committer got some further, and then a little longer, so that the kill falls
        anywhere."""
        goals = {p: p.acknowledged + acknowledged for p in producers} | {c: c.acknowledged + commits for c in committers}
        wait_until(lambda: any(p.failure for p in goals) or all(p.acknowledged >= goal for p, goal in goals.items()), "all write and commit")
        time.sleep(self.random.uniform(0, 0.05))

    def wait_for_event(self, name, seconds=60):
        """Until the event is logged once more than it was."""
        pattern = re.compile(LOG_EVENTS[name])
        seen = len(pattern.findall(self.server.log_text()))
        wait_until(lambda: len(pattern.findall(self.server.log_text())) > seen, f"the server logs {name}", seconds, pause=0.001)
