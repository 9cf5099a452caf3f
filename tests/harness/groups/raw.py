"""Raw requests of consumer groups, in fixed versions without the compact encoding.

They look at groups from outside, whatever client is inside, and do what no client does: commit of an old generation,
leave in another's name. `generation` finds out what no answer tells, by heartbeats.
"""

from typing import NamedTuple

from .. import wire
from ..server import wait_until
from ..wire import array, blob, i8, i16, i32, i64, string

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE = 8, 9, 10, 11, 12, 13, 14, 15, 16, 42
OFFSET_DELETE = 47

NONE, COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 0, 14, 15, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS = 22, 25, 27
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, MEMBER_ID_REQUIRED, FENCED_INSTANCE_ID = 68, 69, 79, 82
RETRY = {COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR}


class Described(NamedTuple):
    error: int
    state: str
    protocol_type: str
    protocol: str
    members: dict  # member id → DescribedMember


class DescribedMember(NamedTuple):
    instance: str | None
    client_id: str
    host: str
    subscription: bytes
    assignment: bytes

    def partitions(self):
        return partitions_of(self.assignment)


def partitions_of(assignment):
    """What the consumer protocol says is assigned: {(topic, partition)}."""
    if not assignment:
        return set()
    reader = wire.Reader(assignment)
    reader.i16()
    return {(topic, p) for topic, ps in reader.array(lambda: (reader.string(), reader.array(reader.i32))) for p in ps}


class Joined(NamedTuple):
    error: int
    generation: int
    protocol: str
    leader: str
    member: str
    members: list  # of (id, instance, metadata); for the leader alone


# ------------------------------------------------------------------------------------------- bodies and answers


def find_coordinator_body(group):
    """FindCoordinator 1."""
    return string(group) + i8(0)


def join_body(group, member, protocols, session_ms=30_000, rebalance_ms=60_000, instance=None):
    """JoinGroup 5; `protocols` is a list of (name, metadata)."""
    offered = array([string(name) + blob(metadata) for name, metadata in protocols])
    return string(group) + i32(session_ms) + i32(rebalance_ms) + string(member) + string(instance) + string("consumer") + offered


def read_join(reader):
    reader.i32()
    error, generation, protocol, leader, member = reader.i16(), reader.i32(), reader.string(), reader.string(), reader.string()
    return Joined(error, generation, protocol, leader, member, reader.array(lambda: (reader.string(), reader.string(), reader.blob())))


def sync_body(group, generation, member, assignments=None, instance=None):
    """SyncGroup 3; `assignments` is {member: bytes}, from the leader."""
    given = array([string(name) + blob(data) for name, data in (assignments or {}).items()])
    return string(group) + i32(generation) + string(member) + string(instance) + given


def read_sync(reader):
    """(error, assignment)"""
    reader.i32()
    return reader.i16(), reader.blob()


def heartbeat_body(group, generation, member, instance=None):
    """Heartbeat 3."""
    return string(group) + i32(generation) + string(member) + string(instance)


def read_heartbeat(reader):
    reader.i32()
    return reader.i16()


def leave_body(group, members):
    """LeaveGroup 3; `members` is a list of (id, instance)."""
    return string(group) + array([string(member) + string(instance) for member, instance in members])


def read_leave(reader):
    """(error, [(member, error)])"""
    reader.i32()
    error = reader.i16()
    return error, [(member, code) for member, _, code in reader.array(lambda: (reader.string(), reader.string(), reader.i16()))]


def commit_body(group, offsets, generation=-1, member="", instance=None):
    """OffsetCommit 7; `offsets` is {(topic, partition): offset or (offset, metadata)}."""
    topics = {}
    for (topic, partition), value in offsets.items():
        offset, metadata = value if isinstance(value, tuple) else (value, "")
        topics.setdefault(topic, []).append(i32(partition) + i64(offset) + i32(-1) + string(metadata))
    listed = array([string(topic) + array(partitions) for topic, partitions in topics.items()])
    return string(group) + i32(generation) + string(member) + string(instance) + listed


def read_commit(reader):
    """{(topic, partition): error}"""
    reader.i32()
    topics = reader.array(lambda: (reader.string(), reader.array(lambda: (reader.i32(), reader.i16()))))
    return {(topic, partition): error for topic, partitions in topics for partition, error in partitions}


def fetch_offsets_body(group, partitions=None):
    """OffsetFetch 5; None asks for all topics."""
    if partitions is None:
        return string(group) + i32(-1)
    topics = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(i32(partition))
    return string(group) + array([string(topic) + array(listed) for topic, listed in topics.items()])


def read_fetch_offsets(reader):
    """(error, {(topic, partition): (offset, metadata)}), with offset -1 where nothing is committed."""
    reader.i32()
    found = {}

    def partition(topic):
        index, offset, _, metadata, error = reader.i32(), reader.i64(), reader.i32(), reader.string(), reader.i16()
        assert error == NONE, f"OffsetFetch answered error {error} for {topic} {index}"
        found[topic, index] = (offset, metadata)

    def topic():
        name = reader.string()
        reader.array(lambda: partition(name))

    reader.array(topic)
    return reader.i16(), found


def read_describe(reader):
    """[Described] of DescribeGroups 4."""
    reader.i32()

    def member():
        name, instance, client, host = reader.string(), reader.string(), reader.string(), reader.string()
        return name, DescribedMember(instance, client, host, reader.blob(), reader.blob())

    def group():
        error, _, state, kind, protocol = reader.i16(), reader.string(), reader.string(), reader.string(), reader.string()
        described = Described(error, state, kind, protocol, dict(reader.array(member)))
        reader.i32()
        return described

    return reader.array(group)


# ------------------------------------------------------------------------------------------------------ requests


class Groups:
    """Groups as one raw connection sees them; opens a new connection when the server was restarted."""

    def __init__(self, server):
        self.server, self.connection = server, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def request(self, api, version, body, read, error_of=lambda answer: answer):
        """Asks until the coordinator is there: a server that has just started may be loading."""
        answer = None

        def ask():
            nonlocal answer
            try:
                self.connection = self.connection or self.server.connect()
                answer = read(self.connection.request(api, version, body))
            except OSError:
                self.close()
                return False
            return error_of(answer) not in RETRY

        wait_until(ask, f"the coordinator answers request {api}")
        return answer

    def find_coordinator(self, group):
        """Asks until there is one: Kafka makes the topic of offsets when it is first asked."""

        def read(reader):
            reader.i32()
            return reader.i16()

        return self.request(FIND_COORDINATOR, 1, find_coordinator_body(group), read)

    def describe(self, group):
        body = array([string(group)]) + i8(0)
        return self.request(DESCRIBE, 4, body, lambda reader: read_describe(reader)[0], lambda described: described.error)

    def heartbeat(self, group, generation, member, instance=None):
        return self.request(HEARTBEAT, 3, heartbeat_body(group, generation, member, instance), read_heartbeat)

    def generation(self, group, known=0):
        """The generation of a group with members: the one in which a member's heartbeat is not refused. `known` is where
        to begin; generations only rise."""
        member = next(iter(self.describe(group).members))
        for generation in range(known, known + 1_000):
            if self.heartbeat(group, generation, member) in (NONE, REBALANCE_IN_PROGRESS):
                return generation
        raise AssertionError(f"no generation of {group} from {known} on is the member's")

    def leave(self, group, *members):
        return self.request(LEAVE, 3, leave_body(group, [(m, None) for m in members]), read_leave, lambda answer: answer[0])

    def commit(self, group, offsets, generation=-1, member="", instance=None):
        body = commit_body(group, offsets, generation, member, instance)
        return self.request(OFFSET_COMMIT, 7, body, read_commit, lambda errors: next(iter(errors.values())))

    def committed(self, group, partitions=None):
        """{(topic, partition): (offset, metadata)} of what is committed."""
        error, found = self.request(
            OFFSET_FETCH, 5, fetch_offsets_body(group, partitions), read_fetch_offsets, lambda answer: answer[0]
        )
        assert error == NONE, f"OffsetFetch answered error {error}"
        return {partition: value for partition, value in found.items() if value[0] >= 0}

    def committed_offsets(self, group):
        return {partition: offset for partition, (offset, _) in self.committed(group).items()}

    def delete(self, group):
        def read(reader):
            reader.i32()
            return reader.array(lambda: (reader.string(), reader.i16()))[0][1]

        return self.request(DELETE, 1, array([string(group)]), read)

    def list(self):
        """{group: protocol type} of ListGroups 2."""

        def read(reader):
            reader.i32()
            return reader.i16(), reader.array(lambda: (reader.string(), reader.string()))

        return dict(self.request(LIST, 2, b"", read, lambda answer: answer[0])[1])
