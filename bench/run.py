"""Measures KafScale and Apache Kafka side by side on this machine: `make bench`.

Both run at once, each with its own defaults, one idle while the other is measured; the turns alternate, and what is
reported are medians over the turns and their ratio. Kafka runs with the heap and the collector of its own start script.
What is compared differs in one thing: KafScale answers after fsync, Kafka by default does not fsync at all.

    bench/run.py [--turns 3] [--megabytes 1000] [--only kafscale|kafka]
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness import java, rust  # noqa: E402
from harness.server import ApacheKafka, Kafscale, Scratch, status_bytes, wait_until  # noqa: E402

from report import show, write_plot  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
RECORD_BYTES, PARTITIONS, RATE, LATENCY_SECONDS = 1000, 6, 1000, 20


class Kafka(ApacheKafka):
    """As bin/kafka-server-start.sh runs it."""

    def command(self):
        heap = ["-Xmx1G", "-Xms1G"]
        collector = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
        return ["java", *heap, *collector, *self.java_options(), "kafka.Kafka", str(self.properties)]


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


def produce_from_java(server, topic, megabytes):
    server.create_topic(topic, PARTITIONS)
    records = megabytes * 1_000_000 // RECORD_BYTES
    size = ["--num-records", records, "--record-size", RECORD_BYTES, "--throughput", "-1"]
    with Meter(server) as meter:
        done = java.tool("kafka-producer-perf-test", "--topic", topic, *size, "--command-property", f"bootstrap.servers={server.bootstrap}")
    assert done.returncode == 0, done.stderr
    seconds = records / float(re.findall(r"([\d.]+) records/sec", done.stdout)[-1])
    return throughput(server, meter, {"bytes": records * RECORD_BYTES, "seconds": seconds})


def latency(server, topic):
    server.create_topic(topic, PARTITIONS)
    answer = load(server, "latency", topic, RATE, LATENCY_SECONDS, "linger.ms=0")
    return {"p50 ms": answer["p50_ms"], "p99 ms": answer["p99_ms"]}


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
    result[f"latency at {RATE} records/s"] = latency(server, name + "-latency")
    result["resident memory"] = {"MB": status_bytes(server.process.pid, "VmRSS") / 1e6}
    result["start-up"] = start_up(server)
    return result


def medians(turns):
    return {what: {unit: statistics.median(t[what][unit] for t in turns) for unit in turns[0][what]} for what in turns[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1000, help="records written and read in a turn")
    parser.add_argument("--only", choices=["kafscale", "kafka"])
    options = parser.parse_args()

    scratch = Scratch()
    kinds = [kind for kind in (Kafscale, Kafka) if options.only in (None, kind.kind)]
    servers = [kind(scratch.path / kind.kind) for kind in kinds]
    turns = {server.kind: [] for server in servers}
    try:
        rust.binary()
        for server in servers:
            server.start()
            print(f"warming {server.kind} up", flush=True)
            produce_and_consume(server, "warm-up", options.megabytes)
        for turn in range(1, options.turns + 1):
            for server in servers:
                turns[server.kind].append(measure(server, turn, options.megabytes))
    finally:
        for server in servers:
            server.stop()
        scratch.remove()

    result = {"machine": machine(), "options": vars(options), "medians": {k: medians(t) for k, t in turns.items()}, "turns": turns}
    show(result["medians"])
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    (out / "latest.json").write_text(json.dumps(result, indent=1) + "\n")
    write_plot(result["medians"], out / "latest.svg")
    print(f"\n{out}/latest.json and latest.svg hold these figures and every turn's")


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(), "commit": commit}


if __name__ == "__main__":
    main()
