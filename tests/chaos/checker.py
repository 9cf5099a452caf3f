"""Decides from a history of several brokers whether it is right. Pure: it knows nothing of servers, sockets or threads.

To the rules of the kill test's checker (offsets without gaps, whole batches, nothing lost, doubled, refused and there, or
out of order) come those that several brokers could break:

1. Every broker reads the same.
2. A reader meets each offset once, in order; and whoever reads an offset, at any broker and at any time, reads the same.
3. An answer is about what is there now: a batch that was sent after another one was acknowledged stands behind it, also
   when two producers wrote them at two brokers.
4. The end of a partition that a broker tells is not before what was acknowledged, read or told by any broker before it
   was asked.
5. Plain producers may be served twice by a broker that woke up, in another order than they sent: so rule 6 of the kill
   test holds for each connection alone. Each attempt is there at most once, none that was refused.
"""

import bisect
from typing import NamedTuple

from kill.checker import REFUSED, UNKNOWN, Value, occurrences
from kill.checker import check as check_one_log


class Probe(NamedTuple):
    """A broker was asked for the end of a partition, and told it."""

    broker: int
    partition: int
    asked: float
    answered: float
    end: int


def check(streams, logs, readings, probes):
    """Every violation, as a sentence. `logs` is {broker: {partition: [(offset, Value)]}}, read when all was quiet."""
    problems = [*readings.problems, *check_brokers(logs), *check_readings(readings, logs)]
    one = next(iter(logs.values()))
    problems += check_one_log(streams, one, plain=check_attempts)
    for partition in one:
        problems += check_real_time(partition, streams, one[partition])
    return problems + check_probes(streams, probes)


def check_brokers(logs):
    """Rule 1."""
    problems = []
    (first, expected), *others = logs.items()
    for broker, found in others:
        for partition, log in found.items():
            if log != expected[partition]:
                at = next((a for a, b in zip(expected[partition], log) if a != b), "its end")
                problems.append(f"partition {partition}: broker {broker} reads {len(log)} records, broker {first} {len(expected[partition])}; they differ at {at}")
    return problems


class Readings:
    """What readers met, while they read. `problems` is rule 2."""

    def __init__(self):
        self.values, self.problems = {}, []

    def met(self, reader, partition, due, records):
        """`records` are [(offset, Value)], where offset `due` was next; returns the offset that is next then."""
        for offset, value in records:
            if offset != due:
                self.problems.append(f"{reader}: offset {offset} of partition {partition} where {due} was due")
            known = self.values.setdefault((partition, offset), value)
            if known != value:
                self.problems.append(f"{reader}: {value} at offset {offset} of partition {partition}, where {known} was read before")
            due = offset + 1
        return due


def check_readings(readings, logs):
    """The end of rule 2: what was once read is still there."""
    problems = []
    for broker, found in logs.items():
        by_place = {(partition, offset): value for partition, log in found.items() for offset, value in log}
        gone = [(place, value) for place, value in readings.values.items() if by_place.get(place) != value]
        problems += [f"{value} was read at (partition, offset) {place}, broker {broker} has {by_place.get(place)}" for place, value in gone[:5]]
    return problems


def check_attempts(attempts, found):
    """Rule 5."""
    problems = []
    pinned = {a.outcome: a for a in attempts if isinstance(a.outcome, int)}
    open_attempts, last = {}, {}
    for attempt in attempts:
        if attempt.outcome == UNKNOWN:
            open_attempts[attempt.batch] = open_attempts.get(attempt.batch, 0) + 1
        if isinstance(attempt.outcome, int):
            before = last.get(attempt.connection)
            if before is not None and before.outcome > attempt.outcome:
                problems.append(f"batch {attempt.batch} at {attempt.outcome} stands before batch {before.batch} at {before.outcome}, sent before it")
            last[attempt.connection] = attempt
    for offset, batch in found:
        attempt = pinned.pop(offset, None)
        if attempt is None:
            open_attempts[batch] = open_attempts.get(batch, 0) - 1
            if open_attempts[batch] < 0:
                problems.append(f"batch {batch} at {offset} is no attempt that may have happened there")
        elif attempt.batch != batch:
            problems.append(f"batch {attempt.batch} was acknowledged at {offset}, where batch {batch} is")
    return problems + [f"batch {attempt.batch} was acknowledged at {offset} and is lost" for offset, attempt in pinned.items()]


def check_real_time(partition, streams, log):
    """Rule 3. What was acknowledged at an offset: everything first sent after that moment stands behind it."""
    places = {}
    for producer, found in occurrences(partition, log)[0].items():
        for offset, batch in found:
            places.setdefault((producer, batch), []).append(offset)
    acknowledged, sent = [], []
    for (producer, of), stream in streams.items():
        if of != partition:
            continue
        first = {}
        for attempt in stream.attempts:
            if isinstance(attempt.outcome, int):
                acknowledged.append((attempt.answered, attempt.outcome))
            if attempt.outcome != REFUSED:
                first.setdefault(attempt.batch, attempt.sent)
        sent += [(when, min(places[producer, batch]), f"batch {batch} of {producer}") for batch, when in first.items() if (producer, batch) in places]
    highest = Highest(acknowledged)
    return [
        f"partition {partition}: {name} at {offset} was sent after offset {highest.before(when)} was acknowledged"
        for when, offset, name in sent
        if offset < highest.before(when)
    ]


def check_probes(streams, probes):
    """Rule 4."""
    known = {}
    for (_, partition), stream in streams.items():
        known.setdefault(partition, []).extend((a.answered, a.outcome + 1) for a in stream.attempts if isinstance(a.outcome, int))
    for probe in probes:
        known.setdefault(probe.partition, []).append((probe.answered, probe.end))
    highest = {partition: Highest(facts) for partition, facts in known.items()}
    return [
        f"partition {p.partition}: broker {p.broker} told the end {p.end} when {highest[p.partition].before(p.asked)} was known to all"
        for p in probes
        if p.end < highest[p.partition].before(p.asked)
    ]


class Highest:
    """The highest of (moment, number) before a moment."""

    def __init__(self, facts):
        self.moments, self.numbers = [], []
        for moment, number in sorted(facts):
            self.moments.append(moment)
            self.numbers.append(max(number, self.numbers[-1] if self.numbers else -1))

    def before(self, moment):
        at = bisect.bisect_left(self.moments, moment)
        return self.numbers[at - 1] if at else -1


__all__ = ["Probe", "Readings", "Value", "check"]
