"""What is measured of a running server, each as {unit: value}. Owns the loads and the meters; which servers run, how often
and what becomes of the figures is `run.py`'s.
"""

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

from harness import java, rust
from harness.server import status_bytes, wait_until

TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
RECORD_BYTES, PARTITIONS, RATE, LATENCY_SECONDS = 1000, 6, 1000, 20
MANY_PARTITIONS, MANY_RATE = 1000, 2000
IDLE_CONSUMERS, GROUPS, MEMBERS, WATCHED_SECONDS = 50, 1000, 3, 20
JAVA_PRODUCERS = 4


class Meter:
    """CPU seconds while a block runs: of the server's process, and of the whole machine less the clients. The second
    holds what the kernel does for the server outside of its process, such as writing back its pages."""

    def __init__(self, server):
        self.pid = server.process.pid

    def __enter__(self):
        self.before = self.read()
        return self

    def __exit__(self, *_):
        process, machine, clients = (now - then for now, then in zip(self.read(), self.before))
        self.process, self.machine = process, machine - clients

    def read(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        process = (int(fields[11]) + int(fields[12])) / TICK
        cpu = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        busy = (sum(cpu[:8]) - cpu[3] - cpu[4]) / TICK  # neither idle nor waiting for the disk
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return process, busy, sum(u.ru_utime + u.ru_stime for u in usage)


def load(server, *arguments):
    return json.loads(rust.run("load", arguments[0], server.bootstrap, *arguments[1:]))


def throughput(server, meter, answer):
    return {
        "MB/s": answer["bytes"] / answer["seconds"] / 1e6,
        "CPU-s/GiB": meter.process / answer["bytes"] * GIB,
        "machine CPU-s/GiB": meter.machine / answer["bytes"] * GIB,
    }


def produce_and_consume(server, topic, megabytes):
    server.create_topic(topic, PARTITIONS)
    records = megabytes * 1_000_000 // RECORD_BYTES
    with Meter(server) as meter:
        produced = load(server, "produce", topic, RECORD_BYTES, records, "linger.ms=5", "batch.size=1000000")
    produce = throughput(server, meter, produced)
    with Meter(server) as meter:
        consumed = load(server, "consume", topic)
    assert consumed["records"] == records
    return {"produce": produce, "consume": throughput(server, meter, consumed)}


def produce_from_java(server, topic, megabytes, producers=1):
    """Kafka's own performance test with the defaults of its client: batches of 16 KiB, five requests in flight."""
    server.create_topic(topic, PARTITIONS)
    records = megabytes * 1_000_000 // RECORD_BYTES // producers
    size = ["--num-records", records, "--record-size", RECORD_BYTES, "--throughput", "-1"]
    words = ["--topic", topic, *size, "--command-property", f"bootstrap.servers={server.bootstrap}"]
    with Meter(server) as meter:
        running = [java.start("kafka-producer-perf-test", *words, stdout=subprocess.PIPE) for _ in range(producers)]
        said = [process.communicate(timeout=600)[0] for process in running]
    assert all(process.returncode == 0 for process in running), said
    rate = sum(float(re.findall(r"([\d.]+) records/sec", text)[-1]) for text in said)
    return throughput(server, meter, {"bytes": records * producers * RECORD_BYTES, "seconds": records * producers / rate})


def latency(server, topic, partitions=PARTITIONS, rate=RATE):
    server.create_topic(topic, partitions)
    with Meter(server) as meter:
        answer = load(server, "latency", topic, rate, LATENCY_SECONDS, "linger.ms=0")
    return {"p50 ms": answer["p50_ms"], "p99 ms": answer["p99_ms"], "CPU, % of a core": percent(meter, LATENCY_SECONDS)}


def idle(server, topic):
    """Consumers, each of every partition in a group of its own, with nothing to read: long polls, heartbeats."""
    server.create_topic(topic, MANY_PARTITIONS)
    with Standing(server, "idle", topic, IDLE_CONSUMERS, 1), Meter(server) as meter:
        time.sleep(WATCHED_SECONDS)
    return {"CPU, % of a core": percent(meter, WATCHED_SECONDS)}


def many_groups(server, topic):
    """Members that send a heartbeat every 3 s and a commit every 5 s, half of the groups without progress."""
    server.create_topic(topic, MEMBERS)
    with Standing(server, "groups", topic, GROUPS, MEMBERS) as members:
        before = entries(server)
        with Meter(server) as meter:
            time.sleep(WATCHED_SECONDS)
        after = entries(server)
    answer = members.answer
    figures = {"commit p50 ms": answer["p50_ms"], "commit p99 ms": answer["p99_ms"], "CPU, % of a core": percent(meter, WATCHED_SECONDS)}
    return figures if before is None else figures | {"journal entries/s": (after - before) / WATCHED_SECONDS}


def entries(server):
    return server.metric("kafscale_journal_ordinal") if server.kind == "kafscale" else None


def percent(meter, seconds):
    return 100 * meter.process / seconds


class Standing:
    """A load that stands while a block runs; `answer` is what it says at its end."""

    def __init__(self, server, *words):
        command = [rust.binary(), "load", words[0], server.bootstrap, *map(str, words[1:])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if line != "ready\n":
            self.process.kill()
            raise RuntimeError(f"the load ended before it stood: {line}")
        return self

    def __exit__(self, *_):
        said = self.process.communicate(timeout=60)[0]
        assert self.process.returncode == 0, said
        self.answer = json.loads(said)


def start_up(server):
    """From the start of the process to the first answer, on the data that is there."""
    assert server.terminate() in (0, 143)
    began = time.monotonic()
    server.start(wait=False)
    wait_until(server.is_ready, "the server serves", 120, pause=0.002)
    return {"ms": (time.monotonic() - began) * 1000}


def measure(server, turn, megabytes):
    name = f"turn-{turn}"
    print(f"  {server.kind}, turn {turn}", flush=True)
    result = produce_and_consume(server, name, megabytes)
    result["produce, Java's defaults"] = produce_from_java(server, name + "-java", megabytes // 2)
    result[f"produce, {JAVA_PRODUCERS} Java producers"] = produce_from_java(server, name + "-javas", megabytes // 2, JAVA_PRODUCERS)
    result[f"{RATE} records/s"] = latency(server, name + "-latency")
    result[f"{MANY_PARTITIONS} partitions, {MANY_RATE} records/s"] = latency(server, name + "-many", MANY_PARTITIONS, MANY_RATE)
    result[f"idle, {MANY_PARTITIONS} partitions, {IDLE_CONSUMERS} consumers"] = idle(server, name + "-idle")
    result[f"{GROUPS} groups of {MEMBERS}"] = many_groups(server, name + "-groups")
    result["resident memory"] = {"MB": status_bytes(server.process.pid, "VmRSS") / 1e6}
    result["start-up"] = start_up(server)
    return result
