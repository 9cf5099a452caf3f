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
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness import rust  # noqa: E402
from harness.server import ApacheKafka, Kafscale, Scratch  # noqa: E402

from measures import measure, produce_and_consume  # noqa: E402
from report import show, write_plot  # noqa: E402


class Kafka(ApacheKafka):
    """As bin/kafka-server-start.sh runs it."""

    def command(self):
        heap = ["-Xmx1G", "-Xms1G"]
        collector = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
        return ["java", *heap, *collector, *self.java_options(), "kafka.Kafka", str(self.properties)]


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
