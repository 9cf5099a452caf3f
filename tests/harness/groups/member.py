"""Members of groups: one thread each, around a client that an adapter has given a common face.

`Client` is what an adapter implements; every method is called from the member's own thread, so that a client that is not
safe for threads, or lives on an event loop, needs nothing more. `Member` runs the loop that an application would: poll,
keep the records, poll. What the tests ask of a member in between is run on its thread too, by `do`.
"""

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from ..server import wait_until


@dataclass(frozen=True)
class Joining:
    """How a member joins; the settings that all clients have."""

    group: str
    topics: tuple
    assignor: str = "range"
    instance: str | None = None
    # Commits what it has read when partitions are taken from it, and when it closes.
    commit_on_revoke: bool = False
    # Long enough that nobody is thrown out of a group because the machine is busy.
    session_ms: int = 45_000
    heartbeat_ms: int = 250
    # How old metadata gets: new partitions are seen after this time.
    metadata_ms: int = 1_000


class Refused(Exception):
    """The server refused, in the client's words."""


class Fenced(Refused):
    """Another member has this one's instance id now."""


class Client:
    """One consumer of one client library. Topics and partitions are (topic, partition); offsets are numbers."""

    name = ""
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    assignors = ("range", "roundrobin")
    # What the client cannot do, and why: {scenario's word: reason}.
    cannot = {}
    # Fields of the reference records that the client cannot carry.
    ignoring = ()
    loses_what_comes_at_its_end = False

    def __init__(self, server, joining, listener):
        """Makes the consumer, without joining. `listener` is told `assigned(partitions)` and `revoked(partitions)`."""

    def subscribe(self):
        """Joins the group, as `joining` says."""
        raise NotImplementedError

    def assign(self, partitions):
        """Takes partitions by hand, without joining."""
        raise NotImplementedError

    def poll(self):
        """Records (dataset.Entry) that came within about 100 ms, the listener's calls made."""
        raise NotImplementedError

    def commit(self, offsets=None, wait=True):
        """Commits what was read, or {partition: (offset, metadata)}; without `wait` by the client's asynchronous call,
        whose outcome is awaited none the less. Raises Refused."""
        raise NotImplementedError

    def committed(self, partitions):
        """{partition: (offset, metadata)} of the group's offsets; without those where nothing is committed."""
        raise NotImplementedError

    def seek(self, partition, offset):
        raise NotImplementedError

    def close(self):
        """Leaves the group, unless it is a static member."""
        raise NotImplementedError

    @classmethod
    def produce(cls, server, topic, entries, codec):
        """Writes the entries, each confirmed at its offset."""
        raise NotImplementedError

    @staticmethod
    def metadata(words):
        """What arrives when the client commits with these words."""
        return words

    @classmethod
    def entries(cls, everything):
        """Those of the reference records that the client can write, with what it can write of them."""
        return everything


class Event(NamedTuple):
    kind: str  # assigned or revoked
    partitions: frozenset


@dataclass
class Member:
    """A client on its own thread. `records`, `events` and `assignment` are what it saw so far."""

    adapter: type
    server: object
    joining: Joining
    # Called on the member's thread after each poll that brought records.
    after_poll: object = None
    records: list = field(default_factory=list)
    events: list = field(default_factory=list)
    assignment: frozenset = frozenset()
    failure: Exception | None = None

    def start(self, by_hand=None):
        """Joins the group, or takes the partitions of `by_hand`."""
        self.by_hand, self.wishes, self.resting = by_hand, queue.SimpleQueue(), threading.Event()
        self.over, self.polls = threading.Event(), 0
        self.thread = threading.Thread(target=self.run, daemon=True, name=self.joining.group)
        self.thread.start()
        return self

    # ------------------------------------------------------------------------------- the member's own thread

    def run(self):
        try:
            self.client = self.adapter(self.server, self.joining, self)
            self.client.assign(self.by_hand) if self.by_hand else self.client.subscribe()
            while not self.over.is_set():
                self.step()
        except Exception as error:  # noqa: BLE001: the test is told, whatever it is
            self.failure = error
            self.over.set()
        finally:
            if hasattr(self, "client"):
                self.end()

    def end(self):
        try:
            self.client.close()
        except Exception as error:  # noqa: BLE001
            self.failure = self.failure or error

    def step(self):
        while not self.wishes.empty():
            self.wishes.get()()
        if self.resting.is_set():
            time.sleep(0.01)
            return
        came = self.client.poll()
        self.records += came
        self.polls += 1
        if came and self.after_poll:
            self.after_poll(self)

    def assigned(self, partitions):
        self.note("assigned", partitions)
        self.assignment |= frozenset(partitions)

    def revoked(self, partitions):
        # Some clients tell of an empty revocation before they first join.
        if partitions:
            self.note("revoked", partitions)
            self.assignment -= frozenset(partitions)

    def note(self, kind, partitions):
        self.events.append(Event(kind, frozenset(partitions)))

    # ---------------------------------------------------------------------------------- from the test's thread

    def do(self, work, seconds=60):
        """Runs `work(client)` on the member's thread and returns its value, or raises what it raised."""
        done, outcome = threading.Event(), []

        def wish():
            try:
                outcome.append((work(self.client), None))
            except Exception as error:  # noqa: BLE001: raised where it was asked for
                outcome.append((None, error))
            done.set()

        self.wishes.put(wish)
        wait_until(lambda: done.is_set() or self.over.is_set(), "the member has time", seconds)
        assert outcome, f"the member has ended: {self.failure!r}"
        value, error = outcome[0]
        if error:
            raise error
        return value

    def rest(self):
        """Stops polling, as an application that is busy; `do` still works."""
        self.do(lambda _: self.resting.set())

    def poll_again(self):
        """Waits for one whole poll more."""
        goal = self.polls + 2
        wait_until(lambda: self.polls >= goal or self.over.is_set(), "the member polls")
        self.check()

    def check(self):
        assert self.failure is None, f"{self.adapter.name} failed: {self.failure!r}"

    def close(self):
        self.over.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), f"{self.adapter.name} does not close"
        self.check()

    def offsets(self):
        """{partition: the offset behind the last record read}"""
        behind = {}
        for entry in self.records[:]:
            behind[entry.partition] = entry.offset + 1
        return behind
