"""The checker of the chaos test sees each kind of damage, and accepts each history that is allowed."""

import pytest
from kill.checker import REFUSED, UNKNOWN, Attempt, Stream, Value

from .checker import Probe, Readings, check
from .groups import Commit, GroupHistory, Told

A, B = (Value(name, 0, 0, 1) for name in "ab")


def log(*batches):
    """A partition's log of (producer, batch) pairs, each a batch of one record."""
    return [(offset, Value(producer, batch, 0, 1)) for offset, (producer, batch) in enumerate(batches)]


def plain(*attempts):
    return Stream(False, [Attempt(*attempt) for attempt in attempts])


def idempotent(*attempts):
    return Stream(True, [Attempt(*attempt) for attempt in attempts])


def verdict(streams, *logs, readings=None, probes=()):
    brokers = {broker: {0: log} for broker, log in enumerate(logs)}
    return check({(producer, 0): stream for producer, stream in streams.items()}, brokers, readings or Readings(), probes)


# Attempts are (batch, outcome, sent, answered, connection).
GOOD = {
    "two producers, one after the other": [{"a": plain((0, 0, 1, 2)), "b": plain((0, 1, 3, 4))}, log(("a", 0), ("b", 0))],
    "two producers at once": [{"a": plain((0, 1, 1, 3)), "b": plain((0, 0, 2, 4))}, log(("b", 0), ("a", 0))],
    "unknown, and lands after what was sent later": [
        {"a": plain((0, UNKNOWN, 1)), "b": plain((0, 0, 2, 3))},
        log(("b", 0), ("a", 0)),
    ],
    "a repetition lands first, the first attempt later": [{"a": idempotent((0, UNKNOWN, 1), (0, 0, 4, 5))}, log(("a", 0))],
    "a pipeline sent again over another connection, served before the first": [
        {"a": plain((0, UNKNOWN, 1, None, 1), (1, UNKNOWN, 1, None, 1), (0, 0, 2, 3, 2), (1, 1, 2, 3, 2))},
        log(("a", 0), ("a", 1), ("a", 0), ("a", 1)),
    ],
    "acknowledged on the first connection after the second": [
        {"a": plain((0, 1, 1, 3, 1), (0, 0, 2, 3, 2))},
        log(("a", 0), ("a", 0)),
    ],
}

BAD = {
    "lost": [{"a": plain((0, 0, 1, 2))}, log(), "is lost"],
    "lost, idempotent": [{"a": idempotent((0, 0, 1, 2))}, log(), "is lost"],
    "twice, idempotent": [{"a": idempotent((0, UNKNOWN, 1), (0, 0, 2, 3))}, log(("a", 0), ("a", 0)), "2 times"],
    "out of order, idempotent": [{"a": idempotent((0, UNKNOWN, 1), (1, 0, 2, 3))}, log(("a", 1), ("a", 0)), "stands behind"],
    "out of order on one connection": [
        {"a": plain((0, 1, 1, 3, 1), (1, 0, 1, 3, 1))},
        log(("a", 1), ("a", 0)),
        "sent before it",
    ],
    "more often than attempted": [{"a": plain((0, UNKNOWN, 1))}, log(("a", 0), ("a", 0)), "no attempt"],
    "acknowledged and there twice": [{"a": plain((0, 0, 1, 2))}, log(("a", 0), ("a", 0)), "no attempt"],
    "refused and there": [{"a": plain((0, REFUSED, 1, 2))}, log(("a", 0)), "no attempt"],
    "refused and there, idempotent": [{"a": idempotent((0, REFUSED, 1, 2))}, log(("a", 0)), "always refused"],
    "another batch at the offset": [{"a": plain((0, 0, 1, 2), (1, UNKNOWN, 1))}, log(("a", 1)), "where batch"],
    "two acknowledged at one offset": [{"a": plain((0, 0, 1, 2)), "b": plain((0, 0, 1, 2))}, log(("a", 0)), "is lost"],
    "written before what was acknowledged earlier": [
        {"a": plain((0, 1, 1, 2)), "b": plain((0, 0, 3, 4))},
        log(("b", 0), ("a", 0)),
        "was sent after offset 1",
    ],
    "the same, with an unknown outcome": [
        {"a": plain((0, 1, 1, 2)), "b": idempotent((0, UNKNOWN, 3))},
        log(("b", 0), ("a", 0)),
        "was sent after offset 1",
    ],
}


@pytest.mark.parametrize("streams, found", GOOD.values(), ids=GOOD.keys())
def test_what_is_allowed_passes(streams, found):
    assert verdict(streams, found, found) == []


@pytest.mark.parametrize("streams, found, words", BAD.values(), ids=BAD.keys())
def test_damage_is_seen(streams, found, words):
    problems = verdict(streams, found, found)
    assert any(words in problem for problem in problems), problems


def test_brokers_that_read_differently_are_seen():
    streams = {"a": plain((0, UNKNOWN, 1), (1, UNKNOWN, 1))}
    full = log(("a", 0), ("a", 1))
    for other in (full[:1], [], log(("a", 1), ("a", 0))):
        assert any("broker 1 reads" in problem for problem in verdict(streams, full, other)), other


def test_readers_meet_every_offset_once_and_in_order():
    readings = Readings()
    assert readings.met("r", 0, 0, [(0, A), (1, B)]) == 2
    assert readings.met("r", 0, 2, []) == 2
    assert readings.met("s", 0, 1, [(1, B)]) == 2, "another reader, from where it likes"
    assert not readings.problems
    readings.met("r", 0, 2, [(3, A)])
    readings.met("r", 0, 4, [(1, B)])
    assert [words in problem for words, problem in zip(("3 of partition 0 where 2", "1 of partition 0 where 4"), readings.problems)] == [True, True]


def test_two_records_at_one_offset_are_seen():
    readings = Readings()
    readings.met("r", 0, 0, [(0, A)])
    readings.met("s", 1, 0, [(0, B)])
    assert not readings.problems, "another partition"
    readings.met("s", 0, 0, [(0, B)])
    assert "was read before" in readings.problems[0]
    assert any("was read before" in problem for problem in verdict({}, [], readings=readings))


def test_what_was_read_and_is_there_no_more_is_seen():
    streams = {"a": plain((0, UNKNOWN, 1)), "b": plain((0, UNKNOWN, 1))}
    readings = Readings()
    readings.met("r", 0, 0, [(0, A)])
    assert verdict(streams, [(0, A)], readings=readings) == []
    for later in ([], [(0, B)]):
        assert any("was read at" in problem for problem in verdict(streams, later, readings=readings))


def test_an_end_that_goes_back_is_seen():
    streams, found = {"a": plain((0, 0, 1, 2), (1, 1, 5, 6))}, log(("a", 0), ("a", 1))
    good = [Probe(0, 0, 1.5, 3, 0), Probe(1, 0, 3, 4, 1), Probe(2, 0, 3.5, 4, 1), Probe(0, 0, 5.5, 7, 2), Probe(1, 0, 6.5, 8, 2)]
    assert verdict(streams, found, probes=good) == []
    behind_an_acknowledgement = Probe(1, 0, 3, 4, 0)
    behind_another_broker = Probe(2, 0, 5, 5.5, 1)
    for probes in ([behind_an_acknowledgement], [Probe(0, 0, 4, 4.5, 2), behind_another_broker]):
        assert any("told the end" in problem for problem in verdict(streams, found, probes=probes))


# ------------------------------------------------------------------------------------------------------ groups


def told(*offsets):
    """The history of one partition: 10 sent at 1 and acknowledged at 2, 20 sent at 3 and never answered; then `offsets`
    are told, one after the other from 5 on."""
    history = GroupHistory()
    history.commits = [Commit(0, 10, 1, 2), Commit(0, 20, 3)]
    history.told = [Told(0, offset, 5 + i, 5.5 + i) for i, offset in enumerate(offsets)]
    return history.check()


def test_what_a_group_committed_does_not_go_back():
    assert told(10, 10, 20) == []
    assert "10 had been committed" in told(-1)[0]
    assert "nobody had committed" in told(15)[0]
    history = GroupHistory()
    history.commits, history.told = [Commit(0, 10, 1, 2), Commit(0, 5, 3, 4)], [Told(0, 5, 5, 6)]
    assert "when 10 had been committed" in history.check()[0], "one that went back itself"


def test_what_a_group_was_told_stays_so():
    assert any("when 20 had been told" in problem for problem in told(20, 10))


def test_a_member_leaves_nothing_out():
    history = GroupHistory()
    assert history.met("m", 0, 3, 3) == 4
    assert history.check() == []
    history.met("m", 0, 4, 6)
    assert "offset 6 of partition 0 where 4 was due" in history.check()[0]
