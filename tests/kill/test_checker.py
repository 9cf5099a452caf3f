"""The checker of the kill test sees each kind of damage, and accepts each history that is allowed."""

import pytest
from harness.groups.raw import Joined
from harness.groups.raw_member import DONE
from harness.groups.raw_member import Attempt as Commit
from harness.groups.raw_member import Book

from .checker import REFUSED, SOMEWHERE, UNKNOWN, Attempt, Stream, Value, check, check_kept


def log(*batches):
    """A partition's log from (producer, batch, size) triples."""
    values = [Value(producer, batch, i, size) for producer, batch, size in batches for i in range(size)]
    return {0: list(enumerate(values))}


def history(idempotent, *outcomes, producer="a"):
    """One stream from (batch, outcome) pairs."""
    return {(producer, 0): Stream(idempotent, [Attempt(batch, outcome) for batch, outcome in outcomes])}


GOOD = {
    "all acknowledged": [True, [(0, 0), (1, 2)], [("a", 0, 2), ("a", 1, 1)]],
    "unknown and there": [True, [(0, UNKNOWN)], [("a", 0, 2)]],
    "unknown and not there": [True, [(0, UNKNOWN)], []],
    "repeated and once there": [True, [(0, UNKNOWN), (0, 0)], [("a", 0, 2)]],
    "acknowledged twice at one offset": [True, [(0, 0), (0, 0)], [("a", 0, 2)]],
    "acknowledged as a duplicate": [True, [(0, UNKNOWN), (0, SOMEWHERE)], [("a", 0, 1)]],
    "refused and not there": [True, [(0, REFUSED)], []],
    "refused, repeated, there": [True, [(0, REFUSED), (0, 0)], [("a", 0, 1)]],
    "plain, unknown twice, there twice": [False, [(0, UNKNOWN), (0, UNKNOWN)], [("a", 0, 1), ("a", 0, 1)]],
    "plain, unknown and repeated, there twice": [False, [(0, UNKNOWN), (0, 1)], [("a", 0, 1), ("a", 0, 1)]],
    "plain, unknown and repeated, there once": [False, [(0, UNKNOWN), (0, 0)], [("a", 0, 1)]],
    "plain, a pipeline sent again": [
        False,
        [(0, UNKNOWN), (1, UNKNOWN), (0, 2), (1, 3)],
        [("a", 0, 1), ("a", 1, 1), ("a", 0, 1), ("a", 1, 1)],
    ],
}

BAD = {
    "lost": [True, [(0, 0), (1, 1)], [("a", 0, 1)], "is lost"],
    "lost at the front": [True, [(0, 0), (1, 1)], [("a", 1, 1)], "is lost"],
    "at another offset": [True, [(0, 1), (1, 0)], [("a", 0, 1), ("a", 1, 1)], "was acknowledged at 1"],
    "twice": [True, [(0, 0), (0, UNKNOWN)], [("a", 0, 1), ("a", 0, 1)], "2 times"],
    "out of order": [True, [(0, UNKNOWN), (1, 0)], [("a", 1, 1), ("a", 0, 1)], "stands behind"],
    "refused and there": [True, [(0, REFUSED)], [("a", 0, 1)], "always refused"],
    "never sent": [True, [(0, 0)], [("a", 0, 1), ("a", 7, 1)], "never sent"],
    "of a stranger": [True, [(0, 0)], [("a", 0, 1), ("z", 0, 1)], "who sent none"],
    "acknowledged as a duplicate and lost": [True, [(0, SOMEWHERE)], [], "is lost"],
    "plain, lost": [False, [(0, 0), (1, 1)], [("a", 0, 1)], "is lost"],
    "plain, acknowledged and there twice": [False, [(0, 0)], [("a", 0, 1), ("a", 0, 1)], "no attempt"],
    "plain, refused and there": [False, [(0, REFUSED)], [("a", 0, 1)], "no attempt"],
    "plain, out of order": [False, [(0, 1), (1, 0)], [("a", 1, 1), ("a", 0, 1)], "sent after it"],
    "plain, unknown but out of order": [False, [(0, UNKNOWN), (1, UNKNOWN)], [("a", 1, 1), ("a", 0, 1)], "no attempt"],
    "plain, another batch at the offset": [False, [(0, 0), (1, 1)], [("a", 1, 1), ("a", 0, 1)], "where batch"],
}


@pytest.mark.parametrize("idempotent, outcomes, batches", GOOD.values(), ids=GOOD.keys())
def test_what_is_allowed_passes(idempotent, outcomes, batches):
    assert check(history(idempotent, *outcomes), log(*batches)) == []


@pytest.mark.parametrize("idempotent, outcomes, batches, words", BAD.values(), ids=BAD.keys())
def test_damage_is_seen(idempotent, outcomes, batches, words):
    problems = check(history(idempotent, *outcomes), log(*batches))
    assert any(words in problem for problem in problems), problems


def test_a_gap_and_a_repeated_offset_are_seen():
    streams, good = history(True, (0, 0)), log(("a", 0, 3))[0]
    for bent in (good[:1] + good[2:], [good[0], good[0], *good[1:]], [(o + 1, v) for o, v in good]):
        assert any("was due" in problem for problem in check(streams, {0: bent}))


def test_half_a_batch_is_seen():
    streams, whole = history(True, (0, UNKNOWN)), log(("a", 0, 3))[0]
    for bent in (whole[:2], whole[1:], [whole[0], (1, Value("a", 0, 2, 3)), (2, Value("a", 0, 1, 3))]):
        assert any("not whole" in problem for problem in check(streams, {0: bent}))


def test_two_batches_that_interleave_are_seen():
    a, b = (log((name, 0, 2))[0] for name in "ab")
    mixed = [(i, value) for i, (_, value) in enumerate([a[0], b[0], a[1], b[1]])]
    streams = history(True, (0, UNKNOWN)) | history(True, (0, UNKNOWN), producer="b")
    assert any("not whole" in problem for problem in check(streams, {0: mixed}))


def test_a_log_that_changed_or_shrank_is_seen():
    before, changed = log(("a", 0, 1), ("a", 1, 1)), log(("a", 0, 1), ("b", 1, 1))
    assert check_kept(before, before) == []
    assert check_kept(before, log(("a", 0, 1), ("a", 1, 1), ("a", 2, 1))) == []
    assert "now it is" in check_kept(before, changed)[0]
    assert "now 1" in check_kept(before, log(("a", 0, 1)))[0]


def test_a_value_survives_its_bytes():
    value = Value("plain-1", 17, 2, 5)
    assert Value.decode(value.encode()) == value


# -------------------------------------------------------------------------------------- the book of a group


# What was sent to be committed, in order, what is committed, and the words of the problem if there is one.
COMMITS = {
    "nothing sent": [[], -1, None],
    "the last that was acknowledged": [[(0, DONE), (1, DONE)], 1, None],
    "an unknown one behind it": [[(0, DONE), (1, UNKNOWN)], 1, None],
    "an unknown one that is not there": [[(0, DONE), (1, UNKNOWN)], 0, None],
    "lost": [[(0, DONE), (1, DONE)], 0, "1 was acknowledged, 0 is committed"],
    "all lost": [[(0, DONE)], -1, "0 was acknowledged, -1 is committed"],
    "refused and there": [[(0, DONE), (1, REFUSED)], 1, "all were refused"],
    "never sent": [[(0, DONE)], 7, "which nobody sent"],
}


@pytest.mark.parametrize("sent, committed, words", COMMITS.values(), ids=COMMITS.keys())
def test_what_is_committed_must_have_been_sent_and_what_was_acknowledged_must_be_there(sent, committed, words):
    book = Book("group", "topic", 1)
    for offset, outcome in sent:
        commit = Commit(offset)
        commit.outcome = outcome
        book.attempts[0].append(commit)
    book.check_committed(0, committed, book.highest(0, DONE))
    assert [words in problem for problem in book.problems] == ([True] if words else [])


def test_a_generation_has_one_leader_one_deal_and_one_owner_of_a_partition():
    book = Book("group", "topic", 3)
    joined = Joined(0, 1, "range", "a", "a", [("a", None, b""), ("b", None, b"")])
    book.joined(joined)
    dealt = book.deal(joined)
    book.assigned(1, "a", dealt["a"])
    book.assigned(1, "b", dealt["b"])
    book.deal(joined)
    assert not book.problems, "a leader may send the same again"
    book.assigned(1, "b", dealt["a"])
    book.assigned(2, "a", dealt["a"])
    book.joined(joined._replace(leader="b"))
    book.deal(joined._replace(members=joined.members[:1]))
    for words in ("b got", "generation 2", "two leaders", "led twice"):
        assert sum(words in problem for problem in book.problems) == 1, (words, book.problems)
