"""The reference data set: records that every client writes and reads, and the file through which they are passed on.

Clients in other languages read `records.bin` to know what to write, and write what they read in the same form; so the
comparison is made once, here. All integers are big-endian; a length of -1 is null:

    partition i32, offset i64, timestamp i64, key length i32 + bytes, value length i32 + bytes,
    headers i32, then for each: name length i32 + bytes, value length i32 + bytes
"""

import random
import struct
from typing import NamedTuple

# Old enough never to be in the future, and constant: the same run gives the same bytes.
FIRST_TIMESTAMP = 1_750_000_000_000


class Entry(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple  # of (name, bytes or None); names may repeat


def reference_entries(count=100_000, partitions=3, seed=1, text=False):
    """`count` records dealt to the partitions in turn, with the offsets they get in a fresh topic.

    One in sixteen each has: a null key, an empty key, a null value, an empty value; a quarter have headers, with equal
    names, empty and null values among them. Every hundredth timestamp steps back. With `text` all bytes are printable and
    nothing is empty, for clients that speak lines.
    """
    source = random.Random(seed)
    alphabet = bytes(range(97, 123)) if text else bytes(range(256))
    pool = bytes(source.choices(alphabet, k=1 << 16))
    return [entry(source, pool, i, partitions, text) for i in range(count)]


def entry(source, pool, i, partitions, text):
    shape = i % 16
    key = None if shape == 3 else b"" if shape == 5 and not text else b"key-%d" % i
    start = source.randrange(len(pool) - 200)
    value = None if shape == 7 else b"" if shape == 9 and not text else b"%d:" % i + pool[start : start + source.randrange(200)]
    timestamp = FIRST_TIMESTAMP + i - (5_000 if i % 100 == 99 else 0)
    return Entry(i % partitions, i // partitions, timestamp, key, value, headers(pool, i, text))


def headers(pool, i, text):
    if i % 4:
        return ()
    same = (("trace", pool[i % 1000 : i % 1000 + 8]), ("trace", b"%d" % i))
    return same if text or i % 8 else (*same, ("", b""), ("null", None))


def write(path, entries):
    with open(path, "wb") as out:
        out.write(b"".join(map(encode, entries)))


def encode(record):
    parts = [struct.pack(">iqq", record.partition, record.offset, record.timestamp), blob(record.key), blob(record.value)]
    parts.append(struct.pack(">i", len(record.headers)))
    for name, value in record.headers:
        parts += blob(name.encode()), blob(value)
    return b"".join(parts)


def blob(value):
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value


def read(path):
    return parse(path.read_bytes())


def parse(data):
    at, entries = 0, []

    def take_blob():
        nonlocal at
        size = struct.unpack_from(">i", data, at)[0]
        at += 4
        if size < 0:
            return None
        at += size
        return data[at - size : at]

    while at < len(data):
        partition, offset, timestamp = struct.unpack_from(">iqq", data, at)
        at += 20
        key, value = take_blob(), take_blob()
        (count,) = struct.unpack_from(">i", data, at)
        at += 4
        pairs = tuple((take_blob().decode(), take_blob()) for _ in range(count))
        entries.append(Entry(partition, offset, timestamp, key, value, pairs))
    return entries


def assert_same(got, expected, ignoring=()):
    """Same records at the same partitions and offsets; `ignoring` names fields a client cannot carry."""
    blank = {field: None for field in ignoring}
    got = sorted((e._replace(**blank) if blank else e for e in got), key=lambda e: e[:2])
    expected = sorted((e._replace(**blank) if blank else e for e in expected), key=lambda e: e[:2])
    if got == expected:
        return
    for mine, theirs in zip(got, expected):
        assert mine == theirs, f"first difference:\n  got      {mine}\n  expected {theirs}"
    raise AssertionError(f"{len(got)} records read where {len(expected)} were written")
