"""Decides from a history whether a log is right. Pure: it knows nothing of servers, sockets or time.

The history is, for each producer and partition, the attempts to write batches in the order they were sent; each attempt
ended acknowledged at an offset, refused, or unknown (the answer never came). The log is what was read back. The rules:

1. Offsets of a partition are 0, 1, 2, … without gap or repetition.
2. A batch is there whole, at consecutive offsets, or not at all; and nothing is there that nobody sent.
3. An acknowledged batch is at its offset.
4. A batch whose every attempt was refused is not there.
5. Idempotent: a batch is there at most once, and batches are in the order in which the producer numbered them.
6. Plain: the batches of one producer and partition in the log are attempts in the order they were sent, each at most
   once, none of them refused: so a batch is there twice only if more than one attempt may have happened.
7. What was read after an earlier round is still there, at the same offsets.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

REFUSED, UNKNOWN = "refused", "unknown"
# Acknowledged, but without the offset: Kafka's DUPLICATE_SEQUENCE_NUMBER.
SOMEWHERE = "somewhere"


class Value(NamedTuple):
    """What a record says of itself."""

    producer: str
    batch: int
    index: int
    size: int  # records in its batch

    def encode(self):
        return b"%s/%d/%d/%d" % (self.producer.encode(), self.batch, self.index, self.size)

    @classmethod
    def decode(cls, raw):
        producer, *numbers = raw.decode().split("/")
        return cls(producer, *map(int, numbers))


@dataclass
class Attempt:
    batch: int
    outcome: str | int = UNKNOWN  # an int is the offset that was acknowledged
    # When it was sent and answered, and on which of its producer's connections: for tests of several brokers.
    sent: float = field(default=0, compare=False)
    answered: float | None = field(default=None, compare=False)
    connection: int = field(default=0, compare=False)


@dataclass
class Stream:
    """What one producer sent to one partition."""

    idempotent: bool
    attempts: list[Attempt] = field(default_factory=list)


class Occurrence(NamedTuple):
    """One whole batch in the log."""

    offset: int
    batch: int


def check(streams, logs, plain=None):
    """Every violation, as a sentence. `streams` is {(producer, partition): Stream}; `logs` is {partition: [(offset,
    Value)]} in the order read; `plain` is another rule in place of 6."""
    problems, plain = [], plain or check_plain
    for partition, log in sorted(logs.items()):
        problems += check_offsets(partition, log)
        found, broken = occurrences(partition, log)
        problems += broken
        for producer in sorted(found.keys() - {name for name, p in streams if p == partition}):
            problems.append(f"partition {partition}: records of {producer}, who sent none")
        for (producer, of), stream in sorted(streams.items()):
            if of == partition:
                rule = check_idempotent if stream.idempotent else plain
                where = f"partition {partition}, producer {producer}"
                problems += [f"{where}: {problem}" for problem in rule(stream.attempts, found.get(producer, []))]
    return problems


def check_offsets(partition, log):
    for expected, (offset, _) in enumerate(log):
        if offset != expected:
            return [f"partition {partition}: offset {offset} where {expected} was due"]
    return []


def occurrences(partition, log):
    """({producer: [Occurrence]}, problems): the log cut into whole batches."""
    found, problems, at = {}, [], 0
    while at < len(log):
        offset, first = log[at]
        run = [value for _, value in log[at : at + first.size]]
        if run == [first._replace(index=i) for i in range(first.size)]:
            found.setdefault(first.producer, []).append(Occurrence(offset, first.batch))
            at += first.size
        else:
            problems.append(f"partition {partition}: the batch at offset {offset} is not whole: {run[:3]}")
            at += 1
    return found, problems


def check_idempotent(attempts, found):
    problems = []
    by_batch, outcomes = {}, {}
    for occurrence in found:
        by_batch.setdefault(occurrence.batch, []).append(occurrence.offset)
    for attempt in attempts:
        outcomes.setdefault(attempt.batch, set()).add(attempt.outcome)
    for batch, offsets in by_batch.items():
        if len(offsets) > 1:
            problems.append(f"batch {batch} is there {len(offsets)} times, at {offsets}")
        if outcomes.get(batch, {REFUSED}) == {REFUSED}:
            problems.append(f"batch {batch} is there at {offsets}, but was never sent or always refused")
    for batch, known in outcomes.items():
        for outcome in sorted(known - {REFUSED, UNKNOWN}, key=str):
            if not by_batch.get(batch):
                problems.append(f"batch {batch} was acknowledged at {outcome} and is lost")
            elif outcome != SOMEWHERE and outcome not in by_batch[batch]:
                problems.append(f"batch {batch} was acknowledged at {outcome} and is at {by_batch[batch]}")
    order = [occurrence.batch for occurrence in found]
    for earlier, later in zip(order, order[1:]):
        if later < earlier:
            problems.append(f"batch {later} stands behind batch {earlier}")
    return problems


def check_plain(attempts, found):
    """Matches occurrences with attempts, both in order. One at an offset that was acknowledged is that attempt; another
    is the next attempt of that batch with an unknown outcome. Taking the earliest such attempt leaves most for the rest,
    so a match is found if there is one."""
    problems = []
    pinned = {a.outcome: i for i, a in enumerate(attempts) if isinstance(a.outcome, int)}
    position = -1
    for offset, batch in found:
        at = pinned.pop(offset, None)
        if at is None:
            at = next((i for i in range(position + 1, len(attempts)) if attempts[i] == Attempt(batch)), None)
            if at is None:
                problems.append(f"batch {batch} at {offset} is no attempt that may have happened there")
                continue
        if attempts[at].batch != batch:
            problems.append(f"batch {attempts[at].batch} was acknowledged at {offset}, where batch {batch} is")
        elif at <= position:
            problems.append(f"batch {batch} at {offset} stands behind what was sent after it")
        position = max(position, at)
    for offset, at in pinned.items():
        problems.append(f"batch {attempts[at].batch} was acknowledged at {offset} and is lost")
    return problems


def check_kept(before, now):
    """Rule 7: each log read earlier is the beginning of the one read now."""
    problems = []
    for partition, log in sorted(before.items()):
        for then, today in zip(log, now[partition]):
            if then != today:
                problems.append(f"partition {partition}: {then} was read earlier, now it is {today}")
                break
        if len(now[partition]) < len(log):
            problems.append(f"partition {partition}: {len(log)} records were read earlier, now {len(now[partition])}")
    return problems
