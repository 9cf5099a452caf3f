#!/usr/bin/env python3
"""A cluster on this machine: etcd, an S3 server in memory and brokers, each on free ports; Ctrl-C stops all of them.

Nothing of it is kept: it is for trying out. Wants etcd in PATH or in .tools (scripts/build-etcd.sh puts it there), and the
two release binaries (make cluster builds them).
"""

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"


def free_ports(count):
    """Ports that nobody listens on; all are taken at once, so that no two are the same."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def etcd_binary():
    found = [*sorted(ROOT.glob(".tools/etcd-*/etcd"), reverse=True), shutil.which("etcd")]
    if not found[0]:
        sys.exit("there is no etcd in PATH or .tools; scripts/build-etcd.sh 3.4 puts one there")
    return str(found[0])


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


class Processes:
    """What was started, with a log each; the last one to start is the first to stop."""

    def __init__(self, directory):
        self.directory, self.started = directory, []

    def start(self, name, command, **how):
        log = (self.directory / f"{name}.log").open("wb")
        process = subprocess.Popen(command, stderr=log, start_new_session=True, **({"stdout": log} | how))
        self.started.append((name, process))
        return process

    def wait_for(self, url):
        """Until this URL answers; whatever ends meanwhile ends the wait."""
        while not answers(url):
            self.check()
            time.sleep(0.05)

    def check(self):
        for name, process in self.started:
            if process.poll() is not None:
                tail = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
                sys.exit("\n".join([f"{name} has ended with code {process.returncode}; the end of its log:", *tail]))

    def stop(self):
        for _, process in reversed(self.started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def start_etcd(processes):
    client, peer = (f"http://{HOST}:{port}" for port in free_ports(2))
    command = [etcd_binary(), "--name", "one", "--data-dir", str(processes.directory / "etcd")]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"]
    processes.start("etcd", command)
    processes.wait_for(f"{client}/health")
    return client.removeprefix("http://")


def start_s3(processes):
    command = [str(ROOT / "target/release/kafscale-s3"), "--bucket", "kafscale"]
    server = processes.start("s3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server.stdout.readline().split()[1]


def start_broker(processes, number, etcd, s3):
    kafka, http = (f"{HOST}:{port}" for port in free_ports(2))
    places = ["--store=s3://kafscale/demo", f"--s3-endpoint=http://{s3}", f"--journal=etcd://{etcd}/demo"]
    keys = ["--s3-access-key=kafscale", "--s3-secret-key=kafscale-secret"]
    own = [f"--broker-id={number}", f"--identity=broker {number}", f"--listen={kafka}", f"--http={http}"]
    processes.start(f"broker-{number}", [str(ROOT / "target/release/kafscale"), "broker", *places, *keys, *own])
    return kafka, http


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--brokers", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kafscale-cluster-") as directory:
        processes = Processes(Path(directory))
        try:
            run(processes, given)
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
        finally:
            processes.stop()


def run(processes, given):
    etcd, s3 = start_etcd(processes), start_s3(processes)
    brokers = [start_broker(processes, number, etcd, s3) for number in range(given.brokers)]
    for _, http in brokers:
        processes.wait_for(f"http://{http}/readyz")
    print(f"\netcd at {etcd}, S3 at http://{s3}, logs in {processes.directory}")
    for number, (kafka, http) in enumerate(brokers):
        print(f"broker {number}: Kafka on {kafka}, HTTP on {http}, process {processes.started[2 + number][1].pid}")
    first, last = brokers[0][0], brokers[-1][0]
    print(f"\n  echo hello | kcat -b {first} -t demo -P\n  kcat -b {last} -t demo -C -o beginning -e")
    print("\nKill a broker (kill -9 PID) and go on with the others. Ctrl-C stops all.", flush=True)
    until = time.monotonic() + given.seconds
    dead = set()
    while time.monotonic() < until:
        for name, process in processes.started:
            if process.poll() is not None and name not in dead:
                dead.add(name)
                print(f"{name} has ended with code {process.returncode}", flush=True)
        time.sleep(0.2)


main()
