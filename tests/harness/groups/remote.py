"""Java's consumer as a member of groups."""

from .. import java
from .driven import Host, Remote

HOST = Host(lambda: java.command("GroupHost"))
PREFIX = "org.apache.kafka.clients.consumer."
ASSIGNORS = {
    "range": "RangeAssignor",
    "roundrobin": "RoundRobinAssignor",
    "sticky": "StickyAssignor",
    "cooperative": "CooperativeStickyAssignor",
}


class Java(Remote):
    name = "java"
    host = HOST
    assignors = ("range", "roundrobin", "sticky", "cooperative")

    @classmethod
    def consumer_settings(cls, server, joining):
        settings = {
            "bootstrap.servers": server.bootstrap,
            "group.id": joining.group,
            "partition.assignment.strategy": PREFIX + ASSIGNORS[joining.assignor],
            "session.timeout.ms": joining.session_ms,
            # With its only broker away Java's client begins anew with no topics at all (KIP-899), which its leader of a
            # group takes for a change of the topics: it rebalances, whatever the broker does.
            "metadata.recovery.strategy": "none",
            "heartbeat.interval.ms": joining.heartbeat_ms,
            "metadata.max.age.ms": joining.metadata_ms,
            "reconnect.backoff.max.ms": 200,
            "max.poll.records": 5_000,
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
        }
        return settings | ({"group.instance.id": joining.instance} if joining.instance else {})

    @classmethod
    def producer_settings(cls, server, codec):
        return {"bootstrap.servers": server.bootstrap, "compression.type": codec}
