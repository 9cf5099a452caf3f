"""The clients of Node.js as members of groups: kafkajs and @platformatic/kafka."""

from ..server import ROOT
from .aio import without_null_headers
from .driven import Host, Remote


def host(program):
    return Host(lambda: [str(ROOT / ".tools/node/node_modules/.bin/node"), str(ROOT / "tests/node" / program)])


KAFKAJS, PLATFORMATIC = host("kafkajs.mjs"), host("platformatic.mjs")


class NodeClient(Remote):
    @classmethod
    def consumer_settings(cls, server, joining):
        names = ("group", "assignor", "instance", "session_ms", "heartbeat_ms", "metadata_ms")
        return {"bootstrap.servers": server.bootstrap} | {name: getattr(joining, name) or "" for name in names}

    @classmethod
    def producer_settings(cls, server, codec):
        return {"bootstrap.servers": server.bootstrap, "codec": codec, "idempotent": "true"}


class Kafkajs(NodeClient):
    name = "kafkajs"
    host = KAFKAJS
    assignors = ("roundrobin",)
    cannot = {
        "static": "kafkajs has no static members",
        "by hand": "kafkajs takes no partitions by hand",
        "rest": "kafkajs polls and joins again by itself, whatever the application does",
    }

    @classmethod
    def entries(cls, everything):
        return without_null_headers(everything)


class Platformatic(NodeClient):
    name = "platformatic"
    host = PLATFORMATIC
    assignors = ("roundrobin", "cooperative")
    cannot = {
        "by hand": "@platformatic/kafka takes no partitions by hand without joining the group",
        "rest": "@platformatic/kafka polls and joins again by itself, whatever the application does",
        "grow": "@platformatic/kafka looks at the partitions of a topic when it joins, not later",
        "seek": "@platformatic/kafka cannot seek in a stream",
        "fenced": "@platformatic/kafka joins again when it is fenced: the two fence each other without end",
    }

    @staticmethod
    def metadata(words):
        return ""

    def host_of(self, joining):
        # It leaves when it is closed, static or not. So a static member has a process of its own, which is killed.
        self.own = host("platformatic.mjs") if joining.instance else None
        return self.own or self.host

    def close(self):
        if not self.own:
            return super().close()
        self.own.end()
        self.driven.close()
