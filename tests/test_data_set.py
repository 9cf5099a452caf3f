"""The reference data set itself: what the comparisons of the other suites rest on."""

import pytest
from harness import dataset


def test_a_data_set_survives_its_file(tmp_path):
    entries = dataset.reference_entries(1000)
    dataset.write(tmp_path / "records.bin", entries)
    assert dataset.read(tmp_path / "records.bin") == entries


def test_it_holds_every_shape():
    entries = dataset.reference_entries(1000)
    assert {e.key for e in entries} >= {None, b""} and {e.value for e in entries} >= {None, b""}
    assert any(e.headers and e.headers[0][0] == e.headers[1][0] for e in entries), "equal header names"
    assert any(value is None for e in entries for _, value in e.headers), "a null header value"
    assert any(b.timestamp < a.timestamp for a, b in zip(entries, entries[1:])), "a timestamp that steps back"


@pytest.mark.parametrize("field, value", [("key", b"x"), ("value", None), ("headers", ()), ("timestamp", 1), ("offset", 9999)])
def test_a_difference_in_any_field_is_seen(field, value):
    entries = dataset.reference_entries(100)
    bent = entries[:]
    bent[40] = bent[40]._replace(**{field: value})
    with pytest.raises(AssertionError):
        dataset.assert_same(bent, entries)


def test_a_lost_and_a_doubled_record_are_seen():
    entries = dataset.reference_entries(100)
    for bent in (entries[:-1], [*entries, entries[-1]]):
        with pytest.raises(AssertionError):
            dataset.assert_same(bent, entries)
