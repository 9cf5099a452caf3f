"""The members of one group in one test, and what holds for them together."""

from ..server import wait_until
from . import raw
from .member import Joining, Member


class Team:
    """Members with one client in one group on one topic. At the end of the `with` all are closed."""

    def __init__(self, adapter, server, topic, partitions, **joining):
        self.adapter, self.server, self.topic = adapter, server, topic
        self.partitions = frozenset((topic, p) for p in range(partitions))
        self.joining = Joining(topic, (topic,), **joining)
        self.group = topic
        self.members, self.former = [], []
        self.outside = raw.Groups(server)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for member in self.members:
            member.over.set()
        for member in self.members[:]:
            try:
                self.leave(member)
            except Exception:
                if kind is None:
                    raise
        self.outside.close()

    def join(self, count=1, after_poll=None, **changes):
        """Starts members; returns the last one."""
        for _ in range(count):
            joining = Joining(**self.joining.__dict__ | changes)
            self.members.append(Member(self.adapter, self.server, joining, after_poll).start())
        return self.members[-1]

    def leave(self, member):
        self.members.remove(member)
        self.former.append(member)
        member.close()

    def settle(self, seconds=60):
        """Waits until the members own every partition, each one member's, and the group says the same; returns how the
        group is described."""

        def settled():
            for member in self.members:
                member.check()
            described = self.outside.describe(self.group)
            owned = [m.assignment for m in self.members]
            known = [m.partitions() for m in described.members.values()]
            whole = sum(map(len, owned)) == len(self.partitions) and frozenset().union(*owned) == self.partitions
            return whole and described.state == "Stable" and by_size(owned) == by_size(known) and described

        try:
            return wait_until(settled, "the group is settled", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {[m.events for m in self.members]}, {self.outside.describe(self.group)}") from None

    def records(self):
        return [entry for member in [*self.former, *self.members] for entry in member.records[:]]

    def read(self):
        """{(partition, offset): value} of all that was read by anybody."""
        return {(e.partition, e.offset): e.value for e in self.records()}

    def wait_for(self, count, seconds=120):
        """Until so many different records were read."""

        def there():
            for member in self.members:
                member.check()
            return len(self.read()) >= count

        try:
            wait_until(there, f"{count} records are read", seconds, pause=0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}, only {len(self.read())} are") from None


def by_size(sets):
    return sorted(sorted(s) for s in sets)
