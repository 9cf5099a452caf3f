"""librdkafka through Rust's `rdkafka` as a member of groups."""

from .. import rust
from .driven import Host, Remote

HOST = Host(lambda: [str(rust.binary()), "host"])
ASSIGNORS = {"cooperative": "cooperative-sticky"}


class Rdkafka(Remote):
    name = "rdkafka"
    host = HOST
    assignors = ("range", "roundrobin", "cooperative")
    loses_what_comes_at_its_end = True  # closing polls, drops what it gets, and its last commit counts it as read

    @classmethod
    def consumer_settings(cls, server, joining):
        settings = {
            "bootstrap.servers": server.bootstrap,
            "group.id": joining.group,
            "partition.assignment.strategy": ASSIGNORS.get(joining.assignor, joining.assignor),
            "session.timeout.ms": joining.session_ms,
            "heartbeat.interval.ms": joining.heartbeat_ms,
            "topic.metadata.refresh.interval.ms": joining.metadata_ms,
            "reconnect.backoff.max.ms": 200,
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
        }
        return settings | ({"group.instance.id": joining.instance} if joining.instance else {})

    @classmethod
    def producer_settings(cls, server, codec):
        return {"bootstrap.servers": server.bootstrap, "compression.type": codec, "enable.idempotence": "true"}
