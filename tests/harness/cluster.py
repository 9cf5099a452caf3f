"""Several brokers over one bucket and one etcd, each a process on free ports."""

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from .s3 import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from .server import HOST, ROOT, Kafscale, free_port, wait_until

RELEASES = ("3.6", "3.5", "3.4")


def etcd_binary(release=None):
    """That release, or the newest that is here (scripts/build-etcd.sh puts them here)."""
    wanted = [ROOT / f".tools/etcd-{name}/etcd" for name in ([release] if release else RELEASES)]
    found = [path for path in wanted if path.exists()] or [shutil.which("etcd")]
    if not found[0] or (release and not wanted[0].exists()):
        pytest.skip(f"there is no etcd {release or ''} here")
    return found[0]


class Etcd:
    """One member; its data lives in a directory, so that it can be stopped and started again."""

    def __init__(self, directory, release=None, *arguments, name="m"):
        self.directory, self.binary = Path(directory), etcd_binary(release)
        self.arguments, self.name = arguments, name
        self.address, self.peer = (f"{HOST}:{free_port()}" for _ in range(2))
        self.members, self.process = [self], None

    def start(self, wait=True):
        self.directory.mkdir(parents=True, exist_ok=True)
        own, peer = f"http://{self.address}", f"http://{self.peer}"
        initial = ",".join(f"{member.name}=http://{member.peer}" for member in self.members)
        command = [str(self.binary), "--name", self.name, "--data-dir", str(self.directory / "data"), "--logger", "zap"]
        command += ["--listen-client-urls", own, "--advertise-client-urls", own]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", initial]
        # The lives of its brokers depend on it: a test machine's disk is no reason for an election.
        command += ["--heartbeat-interval", "200", "--election-timeout", "2000", *self.arguments]
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait_healthy()
        return self

    def wait_healthy(self):
        wait_until(self.is_healthy, f"etcd at {self.address} answers")

    def is_healthy(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=2) as answer:
                return json.load(answer)["health"] == "true"
        except (OSError, KeyError, ValueError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()


def etcd_members(directory, count):
    """That many members of one etcd, started."""
    members = [Etcd(Path(directory) / f"etcd-{i}", name=f"m{i}") for i in range(count)]
    for member in members:
        member.members = members
        member.start(wait=False)
    for member in members:
        member.wait_healthy()
    return members


class Broker(Kafscale):
    """One of several. `identity` says that a restarted process is the same broker."""

    def __init__(self, directory, number, etcd, s3, prefix, *arguments, rack=None):
        super().__init__(directory, *arguments)
        self.number, self.etcd, self.s3, self.prefix, self.rack = number, etcd, s3, prefix, rack

    def place(self):
        settings = {
            "store": f"s3://{BUCKET}/{self.prefix}",
            "s3-endpoint": f"http://{self.s3.address}",
            "s3-access-key": ACCESS_KEY,
            "s3-secret-key": SECRET_KEY,
            "journal": f"etcd://{self.etcd.address}/{self.prefix}",
            "broker-id": self.number,
            "identity": f"broker {self.number} of {self.prefix}",
        }
        if self.rack:
            settings["rack"] = self.rack
        return [f"--{name}={value}" for name, value in settings.items()]


class Cluster:
    """etcd, our S3 server and brokers. What was not given is its own, and is stopped with it."""

    def __init__(self, directory, brokers=3, prefix="cluster", arguments=(), etcd=None, s3=None, racks=()):
        self.directory = Path(directory)
        self.own = []
        self.s3 = s3 or self._owned(S3Server())
        self.etcd = etcd or self._owned(Etcd(self.directory / "etcd").start())
        racks = tuple(racks) or (None,) * brokers
        self.brokers = [
            Broker(self.directory / f"broker-{i}", i, self.etcd, self.s3, prefix, *arguments, rack=rack)
            for i, rack in enumerate(racks)
        ]

    def _owned(self, server):
        self.own.append(server)
        return server

    def start(self):
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait_ready()
        return self

    @property
    def bootstrap(self):
        return ",".join(broker.bootstrap for broker in self.brokers)

    def create_topic(self, name, partitions=1, **configs):
        self.brokers[0].create_topic(name, partitions, **configs)
        for broker in self.brokers[1:]:
            with broker.connect() as connection:
                broker.wait_writable(connection, name, partitions)
        return name

    def stop(self):
        for server in [*self.brokers, *self.own]:
            server.stop()
